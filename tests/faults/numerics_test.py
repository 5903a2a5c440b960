"""Mixed precision, overflow and large ell: what holds and what is noticed."""

import copy
import functools

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.files import records
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from tests.engine.helpers import (
    Interrupted,
    assert_same_end,
    execute,
    interrupt_after,
)
from tests.studies.helpers import build, study_config

RUN = RunSpec(batch_size=128, learning_rate=3.2, ell=2.0, seed=1, total=22)
BITS = {"mixed_float16": 11, "mixed_bfloat16": 8}
LARGEST_FLOAT16 = 65504.0


@pytest.fixture
def policy(request):
    """A global dtype policy, for as long as a test lasts."""
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


def model_of(dtype, optimizer):
    inputs = keras.Input((3,))
    kernel = keras.initializers.Constant(0.3)
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer=kernel, dtype=dtype)(inputs)
    model = keras_svag.SVAGModel(inputs, outputs)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


def scaled(optimizer, dtype, scale):
    """The optimizer, with loss scaling where Keras would have it."""
    if dtype != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=scale)


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("ell", [64.0, 1e6])
def test_amplification_at_large_ell(dtype, ell):
    # At l = 10^6 the halves weigh 707.6 and -706.6, and the loss is scaled by 1024: their products
    # are beyond float16, whose gradients are therefore combined in float32. What is left is the
    # rounding of each half's gradient, amplified as its noise is: 2^-bits (|r1| + |r2|) |g|.
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    moves, logs = {}, {}
    for name in ("float32", dtype):
        optimizer = keras_svag.SVAG(1.0, ell=ell)
        model = model_of(name, scaled(optimizer, name, 1024.0))
        logs[name] = model.train_on_batch(x, y, return_dict=True)
        moves[name] = ell * (model.get_weights()[0] - np.float32(0.3)).ravel()
    r1, r2 = keras_svag.svag_coefficients(ell)
    halves = [2 * (x[i::2] @ np.full((3, 1), 0.3) - y[i::2]) * x[i::2] for i in (0, 1)]
    g1, g2 = (half.mean(axis=0) for half in halves)
    if dtype == "mixed_float16" and ell == 1e6:
        assert np.abs(1024 * r1 * g1).max() > LARGEST_FLOAT16
    # In float32 weights near 0.3 move by multiples of 2^-25, which is ell 2^-25 here.
    grain = ell * 2.0**-24
    np.testing.assert_allclose(moves["float32"], -(r1 * g1 + r2 * g2), rtol=1e-4, atol=grain)
    largest = max(np.abs(half).max() for half in halves)
    close = 4 * 2.0 ** -BITS[dtype] * (abs(r1) + abs(r2)) * largest + grain
    np.testing.assert_allclose(moves[dtype], moves["float32"], rtol=0, atol=close)
    # Small against what is amplified.
    assert close < 0.25 * np.abs(r1 * (g1 - g2)).max()
    for name in ("gradient_noise", "gradient_signal"):
        assert np.isfinite(logs[dtype][name])
        np.testing.assert_allclose(logs[dtype][name], logs["float32"][name], rtol=0.1, atol=0.01)


def test_overflow_skips_the_step_and_lowers_the_scale():
    # Loss scaling is made for that: it is no divergence, and N and G do not see it.
    inner = keras_svag.SVAG(0.01, ell=4.0)
    model = model_of("mixed_float16", keras.optimizers.LossScaleOptimizer(inner, 2.0**20))
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 1))
    taken = []
    for _ in range(10):
        logs = model.train_on_batch(x, y, return_dict=True)
        taken.append(int(inner.iterations))
        assert np.isfinite(logs["loss"]) and np.isfinite(logs["gradient_noise"])
    skipped = taken.count(0)
    assert 1 <= skipped < 10 and taken == [0] * skipped + list(range(1, 11 - skipped))
    assert float(model.optimizer.dynamic_scale) == 2.0 ** (20 - skipped)
    # 0.3 is not a number of float32.
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"], indirect=True)
@pytest.mark.slow
def test_study_in_mixed_precision(policy, tmp_path):
    study = build(study_config(checkpoint_steps=3))
    recording = study.recording
    program = CompiledTraining(study.recipe, recording, 128)
    is_wrapped = isinstance(program.model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert is_wrapped == (policy == "mixed_float16")
    execute(RUN, program, recording, tmp_path / "whole")
    assert program.model._svag.ell == RUN.ell
    rows = records.read_jsonl(RunFolder(tmp_path / "whole", RUN.name).metrics)
    assert rows[-1]["step"] == 44 and rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]
    assert all(row["gradient_noise"] > 0 for row in rows)
    # Exact resumption holds for the state of loss scaling too.
    with pytest.raises(Interrupted):
        execute(RUN, program, recording, tmp_path / "cut", on_steps=interrupt_after(6))
    program.start(1.0, seed=7)
    execute(RUN, program, recording, tmp_path / "cut")
    assert_same_end(tmp_path / "cut", tmp_path / "whole", RUN)


def test_learning_rates_beyond_the_integers_of_float32():
    # A million for ell over 22 effective steps: 22 million steps, which float32 cannot count.
    ell, start = 1e6, 2**24 - 2
    study = build(study_config())
    recipe = copy.copy(study.recipe)
    recipe.schedule = functools.partial(
        keras.optimizers.schedules.PolynomialDecay, end_learning_rate=0.0
    )
    program = CompiledTraining(recipe, study.recording, 128)
    steps = np.arange(start, start + 10**6)
    rates = program.learning_rates(ell, start, start + 10**6)
    told = np.round(22 * (1 - rates / program.learning_rates(ell, 0, 1)))
    # float32 rounds a step to an even one: the rate may change a step too early or too late.
    differ = told != steps // 10**6
    assert differ.sum() <= 2 and told[0] == 16 and told[-1] == 17
