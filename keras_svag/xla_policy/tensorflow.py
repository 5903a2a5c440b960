"""Chooses how much of a TensorFlow program XLA compiles.

XLA's convolutions on a CPU are Eigen's, and those that give the gradient of a kernel transpose
their inputs first, on one thread. TensorFlow's own operations call oneDNN instead.
"""

import math

import keras
import tensorflow as tf
from tensorflow.python.util._pywrap_util_port import IsMklEnabled

from keras_svag import _keras
from keras_svag.distribution.tensorflow import is_distributed
from keras_svag.xla_policy import has_accelerator, has_convolutions

JIT_ALL, JIT_ALL_BUT_CONVOLUTIONS, JIT_NONE = "all", "all_but_convolutions", "none"
# Up to so many examples, calling operations one by one takes longer than XLA's slower convolutions:
# PreResNet-8 with group norm on 16x16 images takes 0.7 of the time at 16, as long at 32, 1.3 times
# as long at 64; with batch norm 0.9 at 16.
SMALL_BATCH = 16


def has_onednn():
    """Returns True if TensorFlow's operations call oneDNN (see `TF_ENABLE_ONEDNN_OPTS`)."""
    return IsMklEnabled()


def jit_scope_of(model, num_examples=math.inf):
    """Returns what XLA should compile of a program that runs `model`, a `JIT_` constant."""
    if has_accelerator() or not has_convolutions(model) or not has_onednn():
        return JIT_ALL
    if num_examples <= SMALL_BATCH:
        return JIT_ALL
    # Keras writes group norm as some thirty operations on whole images, which XLA fuses. Otherwise
    # XLA gains less than a program of a hundred small clusters takes to compile.
    return JIT_ALL_BUT_CONVOLUTIONS if _has_groups(model) else JIT_NONE


def _has_groups(model):
    # -1: one group per channel. A single group has operations as large, but simpler.
    return any(
        isinstance(layer, keras.layers.GroupNormalization) and layer.groups != 1
        for layer in _keras.flatten_layers(model)
    )


def compiled(function, jit_scope=JIT_ALL):
    """Returns a `tf.function` of which XLA compiles the `jit_scope`."""
    if is_distributed():
        # Replicas exchange gradients between their programs; a TPU compiles these by itself.
        jit_scope = JIT_NONE
    if jit_scope == JIT_ALL_BUT_CONVOLUTIONS:
        function = _exclude_convolutions(function)
    # Without AutoGraph, which would read through all of Keras, for longer than XLA compiles.
    return tf.function(function, autograph=False, jit_compile=jit_scope == JIT_ALL)


def _exclude_convolutions(function):
    def scoped(*arguments):
        with tf.xla.experimental.jit_scope(compile_ops=lambda node: "Conv" not in node.op):
            return function(*arguments)

    return scoped
