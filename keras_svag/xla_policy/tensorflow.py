"""How much of a program XLA compiles: not all of it where oneDNN's convolutions are faster.

XLA's convolutions on a CPU are Eigen's, and those that give the gradient of a kernel transpose
their inputs first, on one thread. TensorFlow's own operations call oneDNN instead.
"""

import keras
import tensorflow as tf
from tensorflow.python.util._pywrap_util_port import IsMklEnabled

from keras_svag.distribution.tensorflow import is_distributed
from keras_svag.xla_policy import has_accelerator, has_convolutions, layers_of

WHOLE, ALL_BUT_CONVOLUTIONS, NOTHING = "whole", "all_but_convolutions", "nothing"


def has_onednn():
    """Whether TensorFlow's operations call oneDNN.

    They do by themselves on processors with AVX-512 VNNI or newer; the environment variable
    `TF_ENABLE_ONEDNN_OPTS` decides otherwise. Without oneDNN they are no faster than XLA's.
    """
    return IsMklEnabled()


def jit_scope_of(model):
    """What XLA is to compile of a program that runs a model.

    Args:
        model: a built `keras.Model`.

    Returns:
        - `WHOLE`: everything, as on every accelerator,
        - `NOTHING`: for convolutions on a CPU with oneDNN; the other operations gain less by XLA
          than a program of a hundred small parts takes to compile,
        - `ALL_BUT_CONVOLUTIONS`: the same with group norm, which Keras writes as some thirty
          operations on whole images.
    """
    if has_accelerator() or not has_convolutions(model) or not has_onednn():
        return WHOLE
    return ALL_BUT_CONVOLUTIONS if _has_groups(model) else NOTHING


def _has_groups(model):
    layers = layers_of(model)
    # -1: a group for each channel. With one group its operations are as large, but simpler.
    return any(isinstance(x, keras.layers.GroupNormalization) and x.groups != 1 for x in layers)


def compiled(function, share=WHOLE):
    """Compiles a function of tensors, without AutoGraph.

    AutoGraph would read through all of Keras, for longer than XLA takes to compile.

    Args:
        function: the function.
        share: what XLA is to compile of it. Defaults to `WHOLE`. Under a strategy it is `NOTHING`
            in any case: replicas exchange gradients between their programs, and a TPU compiles
            these by itself.

    Returns:
        A `tf.function`.
    """
    if is_distributed():
        share = NOTHING
    if share == ALL_BUT_CONVOLUTIONS:
        function = _in_parts(function)
    return tf.function(function, autograph=False, jit_compile=share == WHOLE)


def _in_parts(function):
    def scoped(*arguments):
        with tf.xla.experimental.jit_scope(compile_ops=lambda node: "Conv" not in node.op):
            return function(*arguments)

    return scoped
