"""Tests of BatchSizeSchedule: data, optimizer, resumption, policy, refusals."""

import contextlib
import copy

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.callbacks import BatchSizeSchedule
from keras_svag.datasets import SampledBatches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype("float32")
Y = (X @ RNG.normal(size=(3, 1)) + RNG.normal(size=(64, 1))).astype("float32")
optimizers = keras.optimizers


class Rows(keras.utils.PyDataset):
    """The user's own data: rows in order."""

    def __init__(self, batch_size, num_examples=64):
        super().__init__()
        self.batch_size = batch_size
        self.num_examples = num_examples
        self.seen = []

    def __len__(self):
        return -(-self.num_examples // self.batch_size)

    def __getitem__(self, index):
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        return X[: self.num_examples][part], Y[: self.num_examples][part]


def tf_data(batch_size, **options):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch_size, **options)


def sampled(batch_size):
    # "shuffled_epochs" would do too; these need no warning.
    return SampledBatches(X, Y, batch_size)


KINDS = {"sampled": sampled, "rows": Rows, "tf_data": tf_data}


class Observer(keras.callbacks.Callback):
    """Counts batches and examples of each epoch."""

    def __init__(self):
        super().__init__()
        self.batches, self.examples, self.rates = [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.append(0)

    def on_train_batch_begin(self, batch, logs=None):
        self.batches[-1] += 1

    def on_epoch_end(self, epoch, logs=None):
        self.rates.append(float(self.model.optimizer.learning_rate))


def compiled(optimizer, svag=False, units=1, **options):
    keras.utils.set_random_seed(1)
    cls = keras_svag.SVAGSequential if svag else keras.Sequential
    model = cls([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile(optimizer, loss="mse", **options)
    return model


def fit(model, schedule, data, epochs=4, callbacks=(), **options):
    return model.fit(
        schedule.batches(data, shuffle=False),
        epochs=epochs,
        callbacks=[schedule, *callbacks],
        verbose=0,
        **options,
    ).history


@pytest.mark.parametrize("svag", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_grows_between_epochs_and_an_epoch_stays_one_pass(kind, svag):
    model, observer = compiled(optimizers.SGD(0.01), svag), Observer()
    schedule = BatchSizeSchedule(4, 2, at=[1, 3], verbose=0)
    options = {} if svag else {"validation_data": (X, Y)}
    history = fit(model, schedule, KINDS[kind](4), callbacks=[observer], **options)
    halves = 2 if kind == "sampled" else 1
    assert observer.batches == [16 // halves, 8 // halves, 8 // halves, 4 // halves]
    assert history["batch_size"] == [4, 8, 8, 16]
    assert int(model.optimizer.iterations) == sum(observer.batches)
    np.testing.assert_allclose(observer.rates, [0.01, 0.02, 0.02, 0.04], rtol=1e-6)
    if svag:
        assert float(model._gradient_statistics.totals()[-1]) == 16 * halves


@pytest.mark.parametrize("kind", KINDS)
def test_a_grown_run_is_a_run_that_was_stopped_and_scaled_by_hand(kind):
    # SGD without momentum has no state, so this is exact.
    model = compiled(optimizers.SGD(0.01, weight_decay=0.1, clipnorm=5.0))
    fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), KINDS[kind](4), epochs=2)
    by_hand = compiled(optimizers.SGD(0.01, weight_decay=0.1, clipnorm=5.0))
    data = KINDS[kind](4)
    fit(by_hand, BatchSizeSchedule(4, 2, at=9, verbose=0), data, epochs=1)
    weights = by_hand.get_weights()
    larger = keras_svag.scale_optimizer(optimizers.SGD(0.01, weight_decay=0.1, clipnorm=5.0), 2)
    by_hand = compiled(larger)
    by_hand.set_weights(weights)
    data = KINDS[kind](8)
    if kind == "sampled":
        data.epoch = 1
    fit(by_hand, BatchSizeSchedule(8, 2, at=9, verbose=0), data, epochs=1)
    for a, b in zip(model.get_weights(), by_hand.get_weights()):
        np.testing.assert_allclose(a, b, rtol=2e-6)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
@pytest.mark.parametrize("kind", ["sampled", "tf_data"])
def test_batch_grows_at_steps_within_an_epoch(kind, steps_per_execution):
    model = compiled(optimizers.SGD(0.01), steps_per_execution=steps_per_execution)
    seen = []
    step = model.compute_loss

    def spy(x, y, y_pred, *args, **kwargs):
        seen.append(len(y_pred))
        return step(x, y, y_pred, *args, **kwargs)

    model.compute_loss = spy
    model.run_eagerly = True
    schedule = BatchSizeSchedule(4, 2, at=[3, 9], unit="step", verbose=0)
    history = fit(model, schedule, KINDS[kind](4), epochs=3)
    halves = 2 if kind == "sampled" else 1
    sizes = [length // halves for length in seen]
    total = int(model.optimizer.iterations)
    sizes = sizes[-total:]  # Keras sees some when it builds the model
    assert sizes[:3] == [4] * 3 and sizes[3:9] == [8] * 6
    # The last batch of an epoch of `tf_data` may be short: 64 - 3 * 4 - 6 * 8 examples are left.
    assert sizes[9] == (16 if kind == "sampled" else 4) and set(sizes[10:]) == {16}
    assert history["batch_size"][-1] == 16


def test_sampled_examples_within_an_epoch_go_on_where_they_were():
    data = SampledBatches(np.arange(64), np.arange(64), 4)
    schedule = BatchSizeSchedule(4, 2, at=3, unit="step")
    schedule.batches(data)
    growing = schedule._data
    growing.begin_epoch(0, [(0, 4), (4, 8)])
    examples = np.concatenate([growing[i][0] for i in range(len(growing))])
    plain = np.concatenate([data[i][0] for i in range(len(data))])
    np.testing.assert_array_equal(examples, plain)


@pytest.mark.parametrize("svag", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_compilation_for_each_batch_size(svag, jit_compile):
    model = compiled(optimizers.AdamW(0.01, weight_decay=0.1), svag, jit_compile=jit_compile)
    traces, train_step = [], model.train_step

    def spy(*args):
        traces.append(1)
        return train_step(*args)

    model.train_step = spy
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(len(traces))
    )
    schedule = BatchSizeSchedule(4, 2, at=[2, 4], verbose=0)
    # The first fit of a model may trace twice, since Keras creates variables in the first step.
    _build(model)
    fit(model, schedule, sampled(4), epochs=6, callbacks=[count])
    if keras.backend.backend() == "jax" and not jit_compile:
        pytest.skip("each step is traced, as in Keras")
    assert list(np.diff([0, *counts]) > 0) == [True, False, True, False, True, False]
    assert counts[-1] - counts[0] == 2


def _build(model):
    model.optimizer.build(model.trainable_variables)


def test_schedule_of_the_learning_rate_stays_on_effective_time():
    cosine = optimizers.schedules.CosineDecay(0.1, 32)
    model, observer = compiled(optimizers.SGD(cosine)), Observer()
    fit(model, BatchSizeSchedule(4, 2, at=[1, 2], verbose=0), Rows(4), 4, [observer])
    # After epochs of 16 examples' steps each: times 16, 32 ... of the schedule.
    expected = [k * float(cosine(16 * e)) for k, e in ((1, 1), (2, 2), (4, 3), (4, 4))]
    np.testing.assert_allclose(observer.rates, expected, rtol=1e-6)


def momentum_and_cosine():
    return optimizers.SGD(optimizers.schedules.CosineDecay(0.02, 200), momentum=0.95)


OPTIMIZERS = {
    "adamw": (lambda: optimizers.AdamW(0.01, weight_decay=0.1), True),
    "momentum_and_cosine": (momentum_and_cosine, True),
    "ema": (lambda: optimizers.SGD(0.01, use_ema=True, ema_momentum=0.9), False),
    "svag": (lambda: keras_svag.SVAGAdam(0.01, ell=2.0), True),
    "accumulation": (
        lambda: optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=2),
        False,
    ),
    "loss_scale": (lambda: optimizers.LossScaleOptimizer(optimizers.Adam(0.01)), False),
}


class Interruption(Exception):
    """Ends a run."""


def interrupt(epoch):
    """A callback that ends training before an epoch."""

    def stop(at, logs):
        if at == epoch:
            raise Interruption

    return keras.callbacks.LambdaCallback(on_epoch_begin=stop)


# Before the first growth and after the last one; the others take longer than a fast test may.
FAST = (("ema", 4), ("accumulation", 2), ("adamw", 4))
RUNS = [
    pytest.param(name, stopped, marks=() if (name, stopped) in FAST else pytest.mark.slow)
    for name in OPTIMIZERS
    for stopped in (2, 4)
]


@pytest.mark.parametrize(("name", "stopped"), RUNS)
def test_backup_and_restore_ends_with_the_same_weights(name, stopped, tmp_path):
    make, svag = OPTIMIZERS[name]

    def run(*callbacks):
        model = compiled(make(), svag)
        schedule = BatchSizeSchedule(4, 2, at=[2, 3], verbose=0)
        with contextlib.suppress(Interruption):
            fit(model, schedule, sampled(4), 5, callbacks)
        return model, schedule

    expected, _ = run()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    run(interrupt(stopped), backup)
    # As in a new process: everything is made anew.
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    model, schedule = run(backup)
    assert schedule.batch_size == 16
    assert int(model.optimizer.iterations) == int(expected.optimizer.iterations)
    _assert_same(model, expected)


def _assert_same(model, expected):
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(model.optimizer.variables, expected.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert _values(model) == _values(expected)


def _values(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    config = optimizer.get_config()
    return {name: value for name, value in config.items() if isinstance(value, float)}


@pytest.mark.parametrize("way", ["save", "weights"])
@pytest.mark.parametrize(
    ("name", "svag"),
    [
        ("momentum_and_cosine", False),
        pytest.param("momentum_and_cosine", True, marks=pytest.mark.slow),
        pytest.param("adamw", False, marks=pytest.mark.slow),
        ("adamw", True),
    ],
)
def test_a_saved_run_goes_on_with_the_same_weights(name, svag, way, tmp_path):
    make = OPTIMIZERS[name][0]
    path = tmp_path / ("model.keras" if way == "save" else "model.weights.h5")
    options = {"save_weights_only": way == "weights", "save_freq": "epoch"}
    expected = compiled(make(), svag)
    schedule = BatchSizeSchedule(4, 2, at=[2, 4], verbose=0)
    checkpoint = keras.callbacks.ModelCheckpoint(path, **options)

    class OnlyAfter(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:  # three epochs are saved
                checkpoint.save_freq = 10**9

    fit(expected, schedule, sampled(4), 5, [checkpoint, OnlyAfter()])
    if way == "save":
        model = keras.models.load_model(path)
    else:
        model = compiled(make(), svag)
        model.optimizer.build(model.trainable_variables)
        model.load_weights(path)
    schedule = BatchSizeSchedule(4, 2, at=[2, 4], verbose=0)
    fit(model, schedule, sampled(4), 5, initial_epoch=3)
    _assert_same(model, expected)


def test_growths_beyond_the_largest_batch_do_nothing_also_when_resumed(tmp_path):
    path = tmp_path / "model.weights.h5"

    def schedule():
        return BatchSizeSchedule(4, 2, at=[1, 2, 3], max_batch_size=8, verbose=0)

    model = compiled(momentum_and_cosine())
    assert fit(model, schedule(), sampled(4), 4)["batch_size"] == [4, 8, 8, 8]
    model.save_weights(path)
    resumed = compiled(momentum_and_cosine())
    resumed.optimizer.build(resumed.trainable_variables)
    resumed.load_weights(path)
    assert fit(resumed, schedule(), sampled(4), 5, initial_epoch=4)["batch_size"] == [8]
    assert resumed.optimizer.momentum == model.optimizer.momentum


def test_weights_of_an_earlier_batch_size_bring_it_back(tmp_path):
    make, path = OPTIMIZERS["momentum_and_cosine"][0], tmp_path / "model.weights.h5"
    model = compiled(make())
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: model.save_weights(path) if epoch == 1 else None
    )
    schedule = BatchSizeSchedule(4, 2, at=[1, 2, 3], verbose=0)
    fit(model, schedule, sampled(4), 5, [save])
    expected = [weight.copy() for weight in model.get_weights()]
    model.load_weights(path)
    sizes = fit(model, schedule, sampled(4), 5, initial_epoch=2)["batch_size"]
    assert sizes == [16, 32, 32]
    for a, b in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_second_fit_goes_on_at_its_batch_size_with_other_batches():
    model = compiled(optimizers.Adam(0.01))
    schedule, data = BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4)
    growing = schedule.batches(data)
    options = {"epochs": 2, "verbose": 0, "callbacks": [schedule]}
    model.fit(growing, **options)
    first = schedule._data[0][0]
    history = model.fit(growing, **options).history
    assert history["batch_size"] == [8, 8]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01 * 2**0.5, rel=1e-6)
    assert not np.array_equal(first, schedule._data[0][0])


def test_a_model_that_is_compiled_anew_begins_anew():
    model = compiled(optimizers.Adam(0.01))
    fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4), 2)
    model.compile(optimizers.Adam(0.01), loss="mse")
    history = fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4), 2)
    assert history["batch_size"] == [4, 8]


def test_an_optimizer_scaled_by_hand_belongs_to_no_batch_size_of_the_run_before():
    model = compiled(optimizers.Adam(0.01))
    fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4), 2)
    model.compile(keras_svag.scale_optimizer(model.optimizer, 0.5), loss="mse")
    history = fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4), 2)
    assert history["batch_size"] == [4, 8]
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01 * 2**0.5, rel=1e-6)


def test_a_schedule_can_be_copied():
    schedule = BatchSizeSchedule(4, 2, at=1, verbose=0)
    fit(compiled(optimizers.SGD(0.01)), schedule, sampled(4), 2)
    assert copy.deepcopy(schedule._growth).batch_size == 8


def test_a_saved_model_with_another_epoch_or_schedule_is_refused(tmp_path):
    model = compiled(optimizers.Adam(0.01), svag=True)
    fit(model, BatchSizeSchedule(4, 2, at=1, verbose=0), sampled(4), 2)
    other = BatchSizeSchedule(4, 3, at=1, verbose=0)
    with pytest.raises(ValueError, match="of the run that is resumed"):
        fit(model, other, sampled(4), 2)


def noise_run(schedule, epochs, bias, *callbacks, num_examples=1600):
    """A linear model of which only the bias is off, and data that are noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num_examples, 3)).astype("float32")
    y = rng.normal(size=(num_examples, 32)).astype("float32")
    model = compiled(optimizers.SGD(1e-4), svag=True, units=32)
    # Many weights: the estimate of the signal is the better.
    model.set_weights([np.zeros((3, 32)), np.full(32, bias)])
    with contextlib.suppress(Interruption):
        history = fit(model, schedule, SampledBatches(x, y, 4), epochs, callbacks)
        return model, history["batch_size"]
    return model, None


def noise_schedule(patience=2, largest=64):
    return BatchSizeSchedule(
        4, 2, policy="noise_scale", max_batch_size=largest, patience=patience, verbose=0
    )


def test_noise_scale_lets_the_batch_grow_where_noise_dominates():
    # Two epochs allow each growth.
    assert noise_run(noise_schedule(largest=16), 5, 0.0)[1] == [4, 4, 8, 8, 16]


def test_noise_scale_keeps_the_batch_where_the_signal_dominates():
    # C^2 start = 8 is always within the bound.
    assert noise_run(noise_schedule(), 6, 30.0)[1][-1] == 8


def test_noise_scale_waits_for_patience_and_resumes_with_what_it_has_seen(tmp_path):
    def run(*callbacks):
        return noise_run(noise_schedule(3, 8), 5, 0.0, *callbacks, num_examples=800)

    expected, sizes = run()
    assert sizes == [4, 4, 4, 8, 8]
    run(interrupt(2), keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    model, later = run(keras.callbacks.BackupAndRestore(tmp_path / "backup"))
    assert later == [4, 8, 8]
    _assert_same(model, expected)


def test_growth_is_printed(capsys):
    fit(compiled(optimizers.Adam(0.01)), BatchSizeSchedule(4, 2, at=1), sampled(4), 2)
    printed = capsys.readouterr().out.strip()
    assert printed == "batch size 4 -> 8 from epoch 1 on; learning rate 0.01 -> 0.01414"


def test_progress_bar_shows_the_steps_of_each_epoch(capsys):
    schedule = BatchSizeSchedule(4, 2, at=1, verbose=0)
    model = compiled(optimizers.SGD(0.01))
    model.fit(schedule.batches(Rows(4)), epochs=2, callbacks=[schedule], verbose=2)
    printed = capsys.readouterr().out
    assert "16/16 - " in printed and "8/8 - " in printed


class CachedLength(Rows):
    """Data that computed all sizes when they were made."""

    def __init__(self, batch_size):
        super().__init__(batch_size)
        self.size = batch_size

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        return X[part], Y[part]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": 0, "factor": 2, "at": 1}, "`start`"),
        ({"start": 4, "factor": 1, "at": 1}, "`factor`"),
        ({"start": 1, "factor": 1.2, "at": 1}, "at least one example"),
        ({"start": 4, "factor": 2}, "Exactly one of"),
        ({"start": 4, "factor": 2, "at": 1, "policy": "noise_scale"}, "Exactly one of"),
        ({"start": 4, "factor": 2, "at": []}, "`at`"),
        ({"start": 4, "factor": 2, "at": [3, 2]}, "`at`"),
        ({"start": 4, "factor": 2, "at": 0}, "`at`"),
        ({"start": 4, "factor": 2, "at": 1, "unit": "batch"}, "`unit`"),
        ({"start": 4, "factor": 2, "policy": "loss"}, "`policy`"),
        ({"start": 4, "factor": 2, "policy": "noise_scale"}, "`max_batch_size`"),
        ({"start": 4, "factor": 2, "at": 1, "max_batch_size": 4}, "max_batch_size"),
        ({"start": 4, "factor": 2, "at": 1, "patience": 0}, "`patience`"),
        ({"start": 4, "factor": 2, "at": 1, "closeness": 1.0}, "`closeness`"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        BatchSizeSchedule(**arguments)


def test_data_are_checked():
    schedule = BatchSizeSchedule(4, 2, at=1, verbose=0)
    for data, words in (
        (X, "SampledBatches"),
        (sampled(8), "must be `start`"),
        (keras.utils.PyDataset(), "batch_size"),
    ):
        with pytest.raises(ValueError, match=words):
            schedule.batches(data)
    with pytest.raises(ValueError, match="`unit`"):
        BatchSizeSchedule(4, 2, at=1, unit="step").batches(Rows(4))
    with pytest.raises(ValueError, match="too large"):
        large = BatchSizeSchedule(4, 20, at=1)
        large.batches(SampledBatches(X, Y, 4, mode="without_replacement"))
    with pytest.raises(ValueError, match="read its attribute `batch_size`"):
        fit(compiled(optimizers.SGD(0.01)), schedule, CachedLength(4), 2)


def test_tf_data_are_checked():
    tf = pytest.importorskip("tensorflow")
    schedule = BatchSizeSchedule(4, 1.5, at=1, verbose=0)
    for data, words in (
        (tf.data.Dataset.from_tensor_slices((X, Y)), "batches of `start`"),
        (tf_data(8), "batches of `start`"),
        (tf_data(4).repeat(), "known length"),
        (tf_data(4), "multiples of 4"),
    ):
        with pytest.raises(ValueError, match=words):
            schedule.batches(data)
    # There would be epochs without a batch.
    with pytest.raises(ValueError, match="at most 64, the number of examples"):
        BatchSizeSchedule(4, 32, at=1).batches(tf_data(4, drop_remainder=True))
    data = tf_data(4, drop_remainder=True)
    history = fit(compiled(optimizers.SGD(0.01)), schedule, data, 2)
    assert history["batch_size"] == [4, 6]


def test_fit_is_refused_with_a_remedy():
    schedule = BatchSizeSchedule(4, 2, at=[1, 2, 3, 4], verbose=0)
    model = compiled(optimizers.SGD(0.01))
    for options in ({"x": X, "y": Y, "batch_size": 4}, {"x": sampled(4)}):
        with pytest.raises(ValueError, match="SampledBatches"):
            model.fit(**options, callbacks=[schedule], verbose=0)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        fit(model, schedule, sampled(4), steps_per_epoch=3)
    for optimizer, words in (
        # Sizes up to 64: kappa = 16, and the rule ends at 10.
        (optimizers.SGD(0.01, momentum=0.9), "must stay below 40 with momentum=0.9"),
        (optimizers.Adamax(0.01), "Adamax"),
        (optimizers.Adafactor(0.01), "number of steps"),
        (optimizers.SGD(lambda: 0.01), "LearningRateSchedule"),
        (keras_svag.SVAG(0.01), "SVAGModel"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(compiled(optimizer), schedule, sampled(4))
    with pytest.raises(ValueError, match="SVAGModel"):
        fit(model, noise_schedule(), sampled(4))
