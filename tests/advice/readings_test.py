"""Tests of keras_svag/advice/readings.py: batch size and noise in every kind of `fit`."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.advice import readings
from keras_svag.callbacks import BatchSizeAdvisor
from keras_svag.distribution import strategy_scope

IS_JAX = keras.backend.backend() == "jax"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)).astype("float32")
Y = RNG.normal(size=(400, 1)).astype("float32")


def linear(optimizer, **options):
    keras.utils.set_random_seed(1)
    model = keras_svag.SVAGSequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, loss="mse", **{"jit_compile": IS_JAX, **options})
    return model


def fit(model, n=400, batch_size=8, epochs=1, advisor=None, **options):
    """Advisor and logs of `fit` on n examples."""
    advisor = advisor or BatchSizeAdvisor(verbose=0)
    options = {"callbacks": [advisor], "verbose": 0, "batch_size": batch_size, **options}
    return advisor, model.fit(X[:n], Y[:n], epochs=epochs, **options).history


KINDS = [
    (is_svag, accumulation, steps)
    for is_svag, accumulation in [(True, None), *((False, a) for a in (None, 2, 3, 7, 64))]
    for steps in (1, 3)
]


def check_random_settings(count, kinds, seed=0):
    """Advice on random n and batch size; one compiled program serves many settings."""
    rng = np.random.default_rng(seed)
    num_advised = 0
    for is_svag, accumulation, steps in kinds:
        optimizer = keras_svag.SVAG(1e-3)
        if not is_svag:
            optimizer = keras.optimizers.SGD(1e-3, gradient_accumulation_steps=accumulation)
        model = linear(optimizer, steps_per_execution=steps)
        for _ in range(count // len(kinds)):
            n, batch_size = int(rng.integers(2, 401)), int(rng.integers(2, 65))
            before = int(keras.ops.convert_to_numpy(optimizer.iterations))
            advisor, _ = fit(model, n, batch_size, epochs=int(rng.integers(1, 4)))
            took_step = int(keras.ops.convert_to_numpy(optimizer.iterations)) > before
            setting = (n, batch_size, is_svag, accumulation, steps)
            assert (advisor.advice is not None) == took_step, setting
            if took_step:
                full = min(n, batch_size)
                expected = full // 2 if is_svag else full * (accumulation or 1)
                assert advisor.advice.batch_size == expected, setting
                assert advisor.advice.fit_batch_size == (full // 2 * 2 if is_svag else full)
                num_advised += 1
    return num_advised


def test_p2_batch_size_in_random_settings():
    kinds = [KINDS[i] for i in (0, 3, 5, 8)]
    assert check_random_settings(8 if IS_JAX else 20, kinds) >= 6


@pytest.mark.slow
def test_p2_batch_size_in_200_random_settings():
    assert check_random_settings(204, KINDS, seed=1) >= 150


@pytest.mark.parametrize(
    ("n", "batch_size", "accumulation", "expected"),
    [(353, 32, None, 32), (200, 32, None, 32), (400, 13, 4, 52)],
)
def test_p2_batch_sizes_of_the_review(n, batch_size, accumulation, expected):
    # 12 and 7 steps an epoch, the last one short; 31 batches an epoch, accumulated by four.
    optimizer = keras.optimizers.SGD(1e-3, gradient_accumulation_steps=accumulation)
    advisor, _ = fit(linear(optimizer), n, batch_size, epochs=2)
    assert advisor.advice.batch_size == expected


class Shuffled(keras.utils.PyDataset):
    """Batches of 8, 8 and 3 of 19 examples, again and again in another order."""

    def __init__(self, rounds):
        super().__init__()
        rng = np.random.default_rng(1)
        self.orders = [rng.permutation(19) for _ in range(rounds)]

    def __len__(self):
        return 3 * len(self.orders)

    def __getitem__(self, index):
        start = 8 * (index % 3)
        rows = self.orders[index // 3][start : start + 8]
        return X[rows], Y[rows]


def test_p2_noise_is_that_of_a_full_batch_though_the_last_is_short():
    model = linear(keras.optimizers.SGD(1e-30))
    kernel, bias = model.get_weights()
    errors = X[:19] @ kernel + bias - Y[:19]
    gradients = 2 * errors * np.concatenate([X[:19], np.ones((19, 1))], axis=1)
    trace = np.var(gradients, axis=0, ddof=1).sum()
    advisor = BatchSizeAdvisor(verbose=0)
    model.fit(Shuffled(150), epochs=2, verbose=0, shuffle=False, callbacks=[advisor])
    noises = np.array([row["gradient_noise"] for row in advisor._recorder.rows])
    # Each batch weighted by its half gave the noise of the mean half, 3.0 instead of 4 examples.
    error = noises.std(ddof=1) / len(noises) ** 0.5
    assert abs(noises.mean() - trace) < 4 * error < 0.25 * trace
    assert advisor.advice.batch_size == 8


def batches(n, batch_size, forever=False):
    while True:
        for start in range(0, n, batch_size):
            yield X[start : start + batch_size], Y[start : start + batch_size]
        if not forever:
            return


@pytest.mark.parametrize("forever", [False, True])
def test_p2_data_of_unknown_length(forever):
    model = linear(keras.optimizers.SGD(1e-3))
    options = {"epochs": 2, "steps_per_epoch": 70} if forever else {}
    advisor = BatchSizeAdvisor(verbose=0)
    model.fit(batches(390, 4, forever), verbose=0, callbacks=[advisor], **options)
    assert advisor.advice.batch_size == 4
    # Keras on TensorFlow counts one more step where a generator ends.
    assert advisor._recorder.rows[-1]["step"] in ([140] if forever else [98, 99])


def test_a_long_epoch_of_unknown_length_has_few_readings():
    advisor = BatchSizeAdvisor(verbose=0)
    model = linear(keras.optimizers.SGD(1e-3), steps_per_execution=10)

    def few(count):
        for _ in range(count):
            yield X[:4], Y[:4]

    model.fit(few(2000), verbose=0, callbacks=[advisor])
    steps = [row["step"] for row in advisor._recorder.rows]
    assert steps[-1] == 2000 and len(steps) < 40 and np.diff(steps).max() <= 200


@pytest.mark.parametrize("as_list", [False, True])
@pytest.mark.parametrize("validate", [False, True])
def test_p2_train_on_batch(as_list, validate):
    model = linear(keras.optimizers.SGD(1e-2))
    advisor = BatchSizeAdvisor(verbose=0)
    callbacks = keras.callbacks.CallbackList([advisor], model=model) if as_list else advisor
    callbacks.set_model(model)
    logged = []
    callbacks.on_train_begin()
    for epoch in range(3):
        callbacks.on_epoch_begin(epoch)
        for i, (x, y) in enumerate(batches(390, 8)):
            callbacks.on_train_batch_begin(i)
            logs = model.train_on_batch(x, y, return_dict=True)
            logged.append([float(logs[n]) for n in ("gradient_noise", "gradient_signal")])
            callbacks.on_train_batch_end(i, logs)
        if validate:
            model.evaluate(X[:50], Y[:50], batch_size=50, verbose=0)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    advice, rows = advisor.advice, advisor._recorder.rows
    assert (advice.batch_size, advice.fit_batch_size) == (8, 8)
    assert [row["step"] for row in rows][:2] == [25, 49]
    # Every step is read, though metrics are reset before each (the first may be read twice).
    steps = np.array(logged[:25])
    assert rows[0]["gradient_noise"] == pytest.approx(4 * steps[:, 0].mean(), rel=1e-5)
    assert rows[0]["gradient_signal"] == pytest.approx(steps[:, 1].mean(), rel=1e-5)


def test_p2_steps_that_overflow_are_left_out():
    with_scale = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(1e-3), initial_scale=2.0**24
    )
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = linear(with_scale)
    finally:
        keras.config.set_dtype_policy("float32")
    advisor, _ = fit(model, 396, 16, epochs=2)
    assert advisor.advice.batch_size == 16
    # Some of the 50 steps were skipped, until the scale had fallen.
    rows = advisor._recorder.rows
    assert 30 < rows[-1]["step"] < 50
    assert all(np.isfinite(row["gradient_noise"]) for row in rows)


def test_p2_another_batch_size_is_another_run():
    model = linear(keras.optimizers.SGD(1e-3))
    advisor, _ = fit(model, 400, 8, epochs=2)
    fit(model, 400, 8, epochs=1, advisor=advisor)
    assert len(advisor._recorder.rows) == 6
    fit(model, 400, 20, epochs=1, advisor=advisor)
    assert len(advisor._recorder.rows) == 1 and advisor.advice.batch_size == 20
    assert [advice.batch_size for advice in advisor.history] == [8, 8, 8, 20]


def test_p1_under_a_strategy():
    # One device: the variables are already those of a strategy, and their conversion another one.
    with strategy_scope("mirrored"):
        model = linear(keras.optimizers.SGD(1e-3), jit_compile=IS_JAX)
        advisor, history = fit(model, 396, 8, epochs=2, advisor=BatchSizeAdvisor(kappa=2))
    assert advisor.advice.batch_size == 8
    assert [row["step"] for row in advisor._recorder.rows] == [25, 50, 75, 100]


def test_p1_an_error_in_the_callback_warns_once_and_training_goes_on(capsys, monkeypatch):
    def fail(variable):
        raise TypeError("float(SyncOnReadVariable)")

    monkeypatch.setattr(readings, "number", fail)
    model = linear(keras.optimizers.SGD(1e-2))
    before = model.get_weights()
    with pytest.warns(UserWarning, match="BatchSizeAdvisor.*TypeError: float.Sync") as caught:
        advisor, history = fit(model, epochs=3, advisor=BatchSizeAdvisor())
    assert len([w for w in caught if "BatchSizeAdvisor" in str(w.message)]) == 1
    assert len(history["loss"]) == 3 and advisor.advice is None
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert "no advice yet" in capsys.readouterr().out
