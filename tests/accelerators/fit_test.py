"""The programs that are compiled ahead of time are those that `fit` and the loops compile."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import accelerators
from keras_svag.models import mlp
from keras_svag.xla_policy import accelerator, assume_accelerator, has_accelerator

pytestmark = pytest.mark.requires_jax


class CpuTarget:
    """A `Target` of this machine."""

    chips = 1


def network(**options):
    model = keras_svag.from_keras(mlp((8, 8), 10, seed=0))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras_svag.SVAG(0.2, ell=4), loss, jit_compile=True, **options)
    return model


def some_batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, 8, 8)).astype("float32"), rng.integers(10, size=16)


def test_step_is_that_of_fit(monkeypatch):
    import jax

    compiled = []

    def note(function, **options):
        compiled.append(jax.jit(function, **options))
        return compiled[-1]

    monkeypatch.setattr("keras.src.backend.jax.trainer.jit", note)
    model, batch = network(), some_batch()
    model.train_on_batch(*batch)
    program = accelerators.Target.train_program(CpuTarget(), model, batch)
    [of_fit] = compiled
    texts = [f.lower(*program.arguments).as_text() for f in (of_fit, program.function)]
    assert texts[0] == texts[1]
    assert "tf.aliasing_output" in texts[0]  # the old state is donated


def test_fused_steps_are_those_of_fit():
    model, batch = network(steps_per_execution=3), some_batch()
    x, y = (np.tile(array, (3, *[1] * (array.ndim - 1))) for array in batch)
    model.fit(x, y, batch_size=16, verbose=0)
    program, arguments = model.train_function.first_call(None, batch)
    assert program is model.train_function._program
    assert [array.shape for array in arguments[1]] == [(3, 16, 8, 8), (3, 16)]
    assert arguments[2] == 3


def test_assumed_accelerator():
    assert accelerator() is None and not has_accelerator()
    with assume_accelerator("gpu"):
        assert accelerator() == "gpu" and has_accelerator()
    assert not has_accelerator()
