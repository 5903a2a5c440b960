"""Tests of SVAGModel, from_keras, and the logs of noise and signal."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import scipy.sparse

from keras_svag import SVAG, SVAGFunctional, SVAGModel, SVAGSequential, from_keras
from keras_svag.trainer import SVAGWrapper
from tests.oracles import TanhNet, flatten
from tests.trainer.exactness_test import cross_entropy, tanh_net

LOGS = {"gradient_noise", "gradient_signal", "noise_to_signal"}


def data(count=32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)).astype("float32"), rng.integers(2, size=count)


def fit(model, x, y, optimizer=None, batch_size=8, jit=False, **options):
    model.compile(
        optimizer or SVAG(0.1, ell=2), cross_entropy(), metrics=["accuracy"], jit_compile=jit
    )
    return model.fit(x, y, batch_size=batch_size, shuffle=False, verbose=0, **options).history


@pytest.mark.parametrize("jit", [False, True], ids=["op_by_op", "xla"])
def test_noise_and_signal_are_those_of_the_two_halves(jit):
    x, y = data(8)
    model = from_keras(tanh_net())
    weights = model.get_weights()
    history = fit(model, x, y, jit=jit)
    gradients = TanhNet.example_gradients(weights, np.float64(x), y)
    g1, g2 = gradients[::2].mean(axis=0), gradients[1::2].mean(axis=0)
    noise, signal = np.sum((g1 - g2) ** 2) / 2, g1 @ g2
    np.testing.assert_allclose(history["gradient_noise"], [noise], rtol=1e-5)
    np.testing.assert_allclose(history["gradient_signal"], [signal], rtol=1e-4)
    ratio = noise / signal if signal > 0 else np.inf
    np.testing.assert_allclose(history["noise_to_signal"], [ratio], rtol=1e-4)


def test_reported_loss_is_the_mean_of_both_halves_not_the_amplified_one():
    x, y = data(8)
    model = from_keras(tanh_net())
    loss = TanhNet.loss(model.get_weights(), np.float64(x), y)
    probabilities = model.predict(x, verbose=0)
    history = fit(model, x, y, SVAG(0.1, ell=64))
    np.testing.assert_allclose(history["loss"], [loss], rtol=1e-5)
    np.testing.assert_allclose(history["accuracy"], [np.mean(probabilities.argmax(1) == y)])


def test_ratio_is_a_ratio_of_means():
    x, y = data(64)
    model = from_keras(tanh_net())
    history = fit(model, x, y, epochs=2)
    for noise, signal, ratio in zip(*(history[name] for name in sorted(LOGS))):
        expected = noise / signal if signal > 0 else np.inf
        np.testing.assert_allclose(ratio, expected, rtol=1e-5)


def test_logs_are_for_training_only():
    x, y = data()
    model = from_keras(tanh_net())
    history = fit(model, x, y, validation_data=(x, y))
    assert set(history) == LOGS | {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}
    assert len(model.evaluate(x, y, verbose=0)) == 2


@pytest.mark.parametrize("measured", [True, False], ids=["on", "off"])
def test_measuring_can_be_switched_off(measured):
    x, y = data()
    model = from_keras(tanh_net())
    model.measure_noise = measured
    history = fit(model, x, y)
    assert (set(history) >= LOGS) == measured


def test_measuring_changes_nothing():
    x, y = data()
    ends = []
    for measured in (True, False):
        keras.utils.set_random_seed(3)
        model = from_keras(dropout_batch_norm_net())
        model.measure_noise = measured
        fit(model, x, y, epochs=2)
        ends.append([v.numpy() for v in model.variables])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_array_equal(a, b)


def dropout_batch_norm_net():
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(momentum=0.5)(keras.layers.Dense(4)(inputs))
    x = keras.layers.Dropout(0.5, seed=1)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def test_batch_norm_has_its_own_statistics_in_each_half():
    # Momentum 0.5: after halves with means m1 and m2 the moving mean is m1 / 4 + m2 / 2.
    inputs = keras.Input((3,))
    outputs = keras.layers.BatchNormalization(momentum=0.5, center=False, name="norm")(inputs)
    model = SVAGModel(inputs, outputs)
    model.compile(SVAG(0.1, ell=2), "mse", jit_compile=False)
    x, _ = data(8)
    model.train_on_batch(x, np.zeros_like(x))
    expected = x[::2].mean(axis=0) / 4 + x[1::2].mean(axis=0) / 2
    moving_mean = model.get_layer("norm").moving_mean.numpy()
    np.testing.assert_allclose(moving_mean, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", ["regularizer", "none"])
def test_regularizers_are_left_out_of_noise_and_signal_but_not_of_the_step(make):
    x, y = data(8)
    strength = 0.7
    regularizer = keras.regularizers.L2(strength) if make == "regularizer" else None
    inputs = keras.Input((3,))
    kernel = keras.initializers.Constant(0.5)
    layer = keras.layers.Dense(
        2, use_bias=False, kernel_initializer=kernel, kernel_regularizer=regularizer
    )
    model = SVAGModel(inputs, layer(inputs))
    history = fit(model, x, y, SVAG(0.1, ell=5))
    weights = np.full((3, 2), 0.5)
    # A linear net is a TanhNet's last layer: gradients of the kernel by hand.
    probabilities = np.full((8, 2), 0.5)  # equal columns: equal logits
    delta = probabilities - np.eye(2)[y]
    g1, g2 = (x[i::2].T @ delta[i::2] / 4 for i in (0, 1))
    np.testing.assert_allclose(history["gradient_noise"], [np.sum((g1 - g2) ** 2) / 2], rtol=1e-4)
    np.testing.assert_allclose(history["gradient_signal"], [np.sum(g1 * g2)], rtol=1e-3, atol=1e-6)
    penalty = 2 * strength * weights if make == "regularizer" else 0.0
    expected = weights - 0.1 / 5 * (2 * g1 - g2 + penalty)
    np.testing.assert_allclose(model.get_weights()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "sgd_momentum", "adamw"])
@pytest.mark.parametrize("count", [8, 7, 2, 1], ids=lambda c: f"batch_{c}")
def test_other_optimizers_take_the_step_of_the_whole_batch(name, count):
    optimizers = {
        "adam": lambda: keras.optimizers.Adam(0.01),
        "sgd_momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "adamw": lambda: keras.optimizers.AdamW(0.01),
    }
    x, y = data(24)
    weights = []
    for wrap in (lambda m: m, from_keras):
        model = wrap(tanh_net())
        model.compile(optimizers[name](), cross_entropy(), metrics=["accuracy"], jit_compile=False)
        for start in (0, 8, 16):
            batch = slice(start, start + count)
            if count == 1 and wrap is from_keras:
                # A last batch of one: its length is not known when the program is traced.
                batches = OneBatch(x[batch], y[batch])
                logs = model.fit(batches, shuffle=False, verbose=0).history
                loss = logs["loss"][0]
            else:
                loss = model.train_on_batch(x[batch], y[batch], return_dict=True)["loss"]
        weights.append((flatten(model.get_weights()), float(loss)))
    # Adam divides by the root of the second moment: rounding of a small gradient is not damped.
    np.testing.assert_allclose(weights[0][0], weights[1][0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(weights[0][1], weights[1][1], rtol=1e-5)


class OneBatch(keras.utils.PyDataset):
    """A batch whose length is not known to TensorFlow when it traces the step."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.arrays


@pytest.mark.parametrize("jit", [False, True], ids=["op_by_op", "xla"])
def test_odd_last_batch_drops_its_last_example(jit):
    # 13 examples in batches of 8: the last batch has 5, of which 4 are used.
    x, y = data(13)
    odd, even = from_keras(tanh_net()), from_keras(tanh_net())
    history_odd = fit(odd, x, y, jit=jit)
    history_even = fit(even, x[:12], y[:12], jit=jit)
    np.testing.assert_allclose(
        flatten(odd.get_weights()), flatten(even.get_weights()), rtol=0, atol=1e-6
    )
    for name in ("loss", "accuracy", "gradient_noise", "gradient_signal"):
        np.testing.assert_allclose(history_odd[name], history_even[name], rtol=1e-5)


def test_last_batch_of_one_steps_without_noise_and_is_not_measured():
    x, y = data(9)
    model, full = from_keras(tanh_net()), from_keras(tanh_net())
    history = fit(model, x, y, SVAG(0.1, ell=4))
    history_full = fit(full, x[:8], y[:8], SVAG(0.1, ell=4))
    assert history["gradient_noise"] == history_full["gradient_noise"]
    gradient = TanhNet.example_gradients(full.get_weights(), np.float64(x[8:]), y[8:])[0]
    expected = flatten(full.get_weights()) - 0.1 / 4 * gradient
    np.testing.assert_allclose(flatten(model.get_weights()), expected, atol=1e-6)
    # Loss: nine examples, each counted once.
    losses = [TanhNet.loss(tanh_net().get_weights(), np.float64(x[:8]), y[:8])]
    losses.append(TanhNet.loss(full.get_weights(), np.float64(x[8:]), y[8:]))
    np.testing.assert_allclose(history["loss"], [np.average(losses, weights=[8, 1])], rtol=1e-5)


def test_noise_of_short_batches_counts_by_their_size():
    x, y = data(12)
    model, first = from_keras(tanh_net()), from_keras(tanh_net())
    for m in (model, first):
        m.compile(SVAG(1e-9, ell=2), cross_entropy(), jit_compile=False)
    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    gradients = TanhNet.example_gradients(first.get_weights(), np.float64(x), y)
    noises = [
        np.sum((gradients[a:b:2].mean(0) - gradients[a + 1 : b : 2].mean(0)) ** 2) / 2
        for a, b in ((0, 8), (8, 12))
    ]
    np.testing.assert_allclose(
        history["gradient_noise"], [np.average(noises, weights=[4, 2])], rtol=1e-5
    )


def test_batch_of_one_is_refused():
    x, y = data(4)
    model = from_keras(tanh_net())
    with pytest.raises(
        ValueError, match=r"`batch_size` must be at least 2.*Received: batch_size=1"
    ):
        fit(model, x, y, batch_size=1)


def count_traces(monkeypatch):
    traces = []
    original = SVAGModel.train_step

    def counting(self, *arguments):
        traces.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(SVAGModel, "train_step", counting)
    return traces


def test_number_of_traces(monkeypatch):
    traces = count_traces(monkeypatch)
    x, y = data(21)  # batches of 8, 8 and 5
    model = from_keras(tanh_net())
    fit(model, x, y, jit=True)
    assert 1 <= len(traces) <= 2  # Keras itself traces twice when it builds state on the way
    before = len(traces)
    model.fit(x, y, batch_size=8, verbose=0)
    model.optimizer.ell = 7.5
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model.set_weights(tanh_net(seed=9).get_weights())
    model.fit(*data(21, seed=5), batch_size=8, verbose=0)
    assert len(traces) == before


class Factor(keras.layers.Layer):
    """Multiplies by a number that a compiled step keeps as it was."""

    factor = 1.0

    def call(self, inputs):
        return self.factor * inputs


def test_train_function_is_made_anew_where_asked():
    layer = Factor()
    model = SVAGSequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False), layer])
    x, _ = data()

    def distance():
        before = model.get_weights()[0]
        model.fit(x, np.ones((len(x), 2)), batch_size=8, verbose=0)
        return np.abs(model.get_weights()[0] - before).max()

    model.compile(SVAG(0.1, ell=2), "mse", jit_compile=True)
    assert distance() > 0
    layer.factor = 0.0
    function = model.make_train_function()
    assert distance() > 0 and model.train_function is function
    del function  # JAX compiles a step again only if nobody has the last one
    model.make_train_function(force=True)
    assert distance() == 0


def test_fit_takes_its_arguments_by_position_too():
    model = from_keras(tanh_net())
    fit(model, *data())
    assert model.fit(*data(), 8, 2, 0).epoch == [0, 1]


def test_weights_classes_and_sample_weights():
    x, y = data(8)
    class_weight = {0: 0.5, 1: 2.0}
    weights = np.where(y == 1, 2.0, 0.5)
    ends = []
    for options in ({"class_weight": class_weight}, {"sample_weight": weights}):
        model = from_keras(tanh_net())
        start = model.get_weights()
        history = fit(model, x, y, SVAG(0.1, ell=5), **options)
        ends.append(flatten(model.get_weights()))
    np.testing.assert_array_equal(*ends)
    gradients = weights[:, None] * TanhNet.example_gradients(start, np.float64(x), y)
    g1, g2 = gradients[::2].mean(axis=0), gradients[1::2].mean(axis=0)
    np.testing.assert_allclose(ends[0], flatten(start) - 0.02 * (2 * g1 - g2), atol=1e-6)
    np.testing.assert_allclose(history["gradient_noise"], [np.sum((g1 - g2) ** 2) / 2], rtol=1e-5)


def test_dict_inputs_and_several_outputs():
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((2,), name="b")}
    joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
    outputs = {
        "left": keras.layers.Dense(1, name="left")(joined),
        "right": keras.layers.Dense(2, name="right")(joined),
    }
    plain = keras.Model(inputs, outputs)
    model = from_keras(plain)
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(16, 3)), "b": rng.normal(size=(16, 2))}
    y = {"left": rng.normal(size=(16, 1)), "right": rng.normal(size=(16, 2))}
    start, weights = plain.get_weights(), {"left": 1.0, "right": 0.5}
    model.compile(SVAG(0.1, ell=1), {"left": "mse", "right": "mae"}, weights)
    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    assert {"left_loss", "right_loss"} <= set(history)
    assert set(model.predict(x, verbose=0)) == {"left", "right"}
    # ell = 1 is the step of the even positions: Keras on those is the oracle.
    after = flatten(model.get_weights())
    reference = keras.Model(inputs, outputs)  # the same layers
    reference.compile(keras.optimizers.SGD(0.1), {"left": "mse", "right": "mae"}, weights)
    even = {name: value[::2] for name, value in x.items()}
    target = {name: value[::2] for name, value in y.items()}
    reference.set_weights(start)
    reference.fit(even, target, batch_size=4, shuffle=False, verbose=0)
    np.testing.assert_allclose(flatten(reference.get_weights()), after, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["functional", "sequential", "subclassed"])
def test_from_keras_shares_weights_and_trains_as_the_functional_one(kind):
    x, y = data()
    reference = from_keras(tanh_net())
    start = reference.get_weights()
    fit(reference, x, y)
    if kind == "functional":
        plain = tanh_net()
    elif kind == "sequential":
        layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh")]
        plain = keras.Sequential([*layers, keras.layers.Dense(2)])
    else:
        plain = Subclassed()
        plain(x)
    plain.set_weights(start)
    model = from_keras(plain)
    expected = {
        "functional": SVAGFunctional,
        "sequential": SVAGSequential,
        "subclassed": SVAGWrapper,
    }
    assert type(model) is expected[kind]
    assert isinstance(model, SVAGModel)
    assert from_keras(model) is model
    fit(model, x, y)
    np.testing.assert_array_equal(flatten(model.get_weights()), flatten(reference.get_weights()))
    np.testing.assert_array_equal(flatten(plain.get_weights()), flatten(model.get_weights()))


@keras.saving.register_keras_serializable(package="keras_svag_tests")
class Subclassed(keras.Model):
    """A subclassed model as users write them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(4, activation="tanh")
        self.logits = keras.layers.Dense(2)

    def call(self, x):
        """Returns logits."""
        return self.logits(self.hidden(x))


class OwnLoss(Subclassed):
    """A subclassed model with its own loss and metric."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.squares = keras.metrics.Mean(name="squares")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Twice the compiled loss."""
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Adds the mean square of the predictions."""
        self.squares.update_state(keras.ops.square(y_pred))
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "squares": self.squares.result()}


def test_wrapped_model_keeps_its_own_loss_and_metrics():
    x, y = data(8)
    plain = OwnLoss()
    plain(x)
    plain.set_weights(tanh_net().get_weights())
    predictions = keras.ops.convert_to_numpy(plain(x))
    model = from_keras(plain)
    history = fit(model, x, y)
    doubled = 2 * TanhNet.loss(tanh_net().get_weights(), np.float64(x), y)
    np.testing.assert_allclose(history["loss"], [doubled], rtol=1e-5)
    np.testing.assert_allclose(history["squares"], [np.mean(predictions**2)], rtol=1e-5)
    assert set(history) >= LOGS
    # The metric starts anew each epoch and is there in evaluation.
    predictions = keras.ops.convert_to_numpy(plain(x))
    again = model.fit(x, y, batch_size=8, verbose=0).history
    np.testing.assert_allclose(again["squares"], [np.mean(predictions**2)], rtol=1e-5)
    evaluated = model.evaluate(x, y, verbose=0, return_dict=True)
    assert set(evaluated) == {"loss", "accuracy", "squares"}


@pytest.mark.parametrize("method", ["train_step", "test_step"])
def test_models_with_their_own_steps_are_refused(method):
    special = type("Special", (Subclassed,), {method: lambda self, batch: {}})
    with pytest.raises(ValueError, match=f"`model` must not define its own `{method}`.*Received"):
        from_keras(special())


def test_from_keras_wants_a_model():
    with pytest.raises(ValueError, match="`model` must be a keras.Model. Received: model='mlp'"):
        from_keras("mlp")


class UserModel(SVAGModel):
    """A user's subclass with a call of its own."""

    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(units)

    def call(self, x):
        """Returns logits."""
        return self.dense(x)


def test_functional_models_do_not_spoil_subclassing():
    class FunctionalUser(SVAGModel):
        """Passes inputs and outputs on, as Keras allows."""

        def __init__(self):
            inputs = keras.Input((3,))
            super().__init__(inputs, keras.layers.Dense(2)(inputs))

    x, y = data()
    bases = SVAGModel.__bases__
    for model in (tanh_net(), FunctionalUser(), UserModel(), FunctionalUser()):
        model = from_keras(model)
        assert set(fit(model, x, y)) >= LOGS
    assert SVAGModel.__bases__ == bases
    inputs = keras.Input((3,))
    assert type(SVAGModel(inputs, keras.layers.Dense(2)(inputs))) is SVAGFunctional
    assert set(fit(UserModel(), x, y)) >= LOGS


def test_add_loss_is_part_of_loss_noise_and_step():
    class Activity(keras.layers.Layer):
        """Adds the mean square of its input to the loss."""

        def call(self, x):
            """Passes x on."""
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    x, y = data(8)
    outcomes = []
    for explicit in (False, True):
        inputs = keras.Input((3,))
        kernel = keras.initializers.Constant([[0.1, 0.2], [0.3, -0.1], [0.5, 0.4]])
        logits = keras.layers.Dense(2, kernel_initializer=kernel)(inputs)
        model = SVAGModel(inputs, logits if explicit else Activity()(logits))

        def loss(target, prediction):
            cross = keras.losses.sparse_categorical_crossentropy(target, prediction, True)
            return cross + keras.ops.mean(keras.ops.square(prediction), axis=-1)

        model.compile(SVAG(0.1, ell=4), loss if explicit else cross_entropy(), jit_compile=False)
        history = model.fit(x, y, batch_size=8, verbose=0, shuffle=False).history
        outcomes.append((history, flatten(model.get_weights())))
    np.testing.assert_allclose(outcomes[0][1], outcomes[1][1], rtol=1e-5)
    for name in ("loss", "gradient_noise", "gradient_signal"):
        np.testing.assert_allclose(outcomes[0][0][name], outcomes[1][0][name], rtol=1e-5)


def test_dropout_draws_another_mask_for_each_half():
    inputs = keras.Input((50,))
    model = SVAGModel(inputs, keras.layers.Dropout(0.5, seed=1)(keras.layers.Dense(50)(inputs)))
    model.compile(SVAG(0.1, ell=2), "mse", jit_compile=False)
    x = np.repeat(np.random.default_rng(0).normal(size=(1, 50)), 2, axis=0)
    logs = model.train_on_batch(x, np.zeros((2, 50)), return_dict=True)
    # Equal examples: only the masks differ, so without them the noise would be 0.
    assert logs["gradient_noise"] > 0


def test_steps_per_execution_gives_the_same_weights_and_logs():
    x, y = data(40)
    outcomes = []
    for steps in (1, 2):
        model = from_keras(tanh_net())
        model.compile(SVAG(0.1, ell=3), cross_entropy(), steps_per_execution=steps)
        history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
        outcomes.append((flatten(model.get_weights()), history))
    np.testing.assert_allclose(outcomes[0][0], outcomes[1][0], rtol=0, atol=1e-6)
    for name in LOGS - {"noise_to_signal"}:
        np.testing.assert_allclose(outcomes[0][1][name], outcomes[1][1][name], rtol=1e-5)


LOAD = """
import pathlib, sys
import keras, numpy as np, keras_svag
from tests.trainer.model_test import data
for path in pathlib.Path(sys.argv[1]).glob("*.keras"):
    model = keras.saving.load_model(path)
    x, y = data(16, seed=4)
    assert isinstance(model, keras_svag.SVAGModel), type(model)
    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    noise = history["gradient_noise"]
    end = path.with_suffix(".npz")
    np.savez(end, *model.get_weights(), noise=noise, kind=type(model).__name__)
"""


def test_keras_file_goes_on_in_a_fresh_process(tmp_path):
    x, y = data(16)
    subclassed = Subclassed()
    subclassed(x)
    models = {
        "functional": from_keras(tanh_net()),
        "sequential": from_keras(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])),
        "subclassed": from_keras(subclassed),
    }
    noise = {}
    for name, model in models.items():
        fit(model, x, y)
        model.save(tmp_path / f"{name}.keras")
        history = model.fit(*data(16, seed=4), batch_size=8, shuffle=False, verbose=0).history
        noise[name] = history["gradient_noise"]
    command = [sys.executable, "-W", "error::UserWarning", "-c", LOAD, tmp_path]
    subprocess.run(command, check=True)
    for name, model in models.items():
        end = np.load(tmp_path / f"{name}.npz")
        assert end["kind"] == type(model).__name__
        np.testing.assert_allclose(end["noise"], noise[name], rtol=1e-6)
        for i, weight in enumerate(model.get_weights()):
            np.testing.assert_allclose(end[f"arr_{i}"], weight, rtol=0, atol=1e-7)


class Modes(keras.Model):
    """A subclassed model with layers that behave otherwise in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.norm = keras.layers.BatchNormalization(momentum=0.5)
        self.dense = keras.layers.Dense(2)

    def call(self, x, training=None):
        """Returns logits."""
        x = self.norm(x, training=training)
        return self.dense(x) if training else self.dense(x)


@pytest.mark.parametrize("called", [False, True], ids=["fresh", "called"])
def test_wrapped_model_trains_in_training_mode(called):
    x, y = data(8)
    plain = Modes()
    if called:
        plain(x)
    model = from_keras(plain)
    fit(model, x, y, validation_data=(x, y))
    expected = x[::2].mean(axis=0) / 4 + x[1::2].mean(axis=0) / 2
    np.testing.assert_allclose(plain.norm.moving_mean.numpy(), expected, rtol=1e-4, atol=1e-6)


def test_sequential_keeps_its_input():
    plain = keras.Sequential([keras.Input((4,), dtype="float32"), keras.layers.Dense(1)])
    model = from_keras(plain)
    assert model.built
    assert model.count_params() == 5
    assert model.input_shape == (None, 4)
    unbuilt = from_keras(keras.Sequential([keras.layers.Dense(1)]))
    assert not unbuilt.built
    unbuilt.compile(SVAG(0.1, ell=2), "mse", jit_compile=False)
    unbuilt.fit(np.ones((8, 4)), np.ones((8, 1)), batch_size=4, verbose=0)


def test_sequential_takes_its_arguments_by_position():
    SVAGSequential([keras.Input((4,)), keras.layers.Dense(1)], True)
    assert SVAGSequential([keras.Input((4,)), keras.layers.Dense(1)]).built


def test_metrics_see_masks():
    tokens = np.array([[1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 3, 4], [5, 6, 0, 0]])
    target = np.where(tokens > 0, 1, 0)
    inputs = keras.Input((4,), dtype="int32")
    embedded = keras.layers.Embedding(10, 4, mask_zero=True)(inputs)
    hidden = keras.layers.LSTM(4, return_sequences=True)(embedded)
    plain = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
    model = from_keras(plain)
    model.compile(SVAG(1e-12), "sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(tokens, target, verbose=0, return_dict=True)
    logs = model.fit(tokens, target, batch_size=4, verbose=0).history
    np.testing.assert_allclose(logs["accuracy"], [expected["accuracy"]], rtol=1e-6)
    padded = np.mean(plain.predict(tokens, verbose=0).argmax(-1) == target)
    assert padded != expected["accuracy"]


def test_eager_mode_takes_a_last_batch_of_one():
    x, y = data(9)
    eager, graph = from_keras(tanh_net()), from_keras(tanh_net())
    eager.compile(SVAG(0.1, ell=4), cross_entropy(), run_eagerly=True)
    eager.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    fit(graph, x, y, SVAG(0.1, ell=4))
    np.testing.assert_allclose(
        flatten(eager.get_weights()), flatten(graph.get_weights()), rtol=0, atol=1e-6
    )


def test_scalars_beside_the_predictions():
    class WithPenalty(SVAGModel):
        """Returns a scalar beside its logits, for its own loss."""

        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(2)

        def call(self, x):
            """Returns a dict."""
            logits = self.dense(x)
            return {"logits": logits, "penalty": keras.ops.mean(logits**2)}

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            """Cross-entropy and the penalty."""
            return keras.ops.mean(
                keras.losses.sparse_categorical_crossentropy(y, y_pred["logits"], True)
            ) + keras.ops.cast(y_pred["penalty"], "float32")

    x, y = data(8)
    model = WithPenalty()
    model.compile(SVAG(0.1, ell=2), jit_compile=False)
    assert set(model.fit(x, y, batch_size=8, verbose=0).history) >= LOGS


def test_nothing_to_train_is_said():
    model = from_keras(tanh_net())
    for layer in model.layers:
        layer.trainable = False
    model.compile("sgd", cross_entropy(), jit_compile=False)
    with pytest.warns(UserWarning, match="does not have any trainable weights"):
        model.fit(*data(8), batch_size=8, verbose=0)


@pytest.mark.parametrize("kind", ["map", "function"])
def test_k4_svag_inside_another_optimizer_is_refused(kind):
    first, second = SVAG(0.1, ell=2), SVAG(0.2, ell=2)
    if kind == "map":
        chosen = keras.optimizers.OptimizerMap(first, {".*bias": second})
    else:

        def chosen(variable):
            return second if variable.path.endswith("bias") else first

    model = from_keras(tanh_net())
    model.compile(keras.optimizers.MultiOptimizer(chosen), cross_entropy(), jit_compile=False)
    with pytest.raises(ValueError, match="`optimizer` must not.*Received: MultiOptimizer.*single"):
        model.fit(*data(8), batch_size=8, verbose=0)


@pytest.mark.requires_tensorflow
def test_k4_svag_inside_another_optimizer_is_refused_in_a_loop_of_ones_own():
    # `fit` has built the optimizer before; only then it has chosen optimizers by variable.
    model = from_keras(tanh_net())
    model.compile(keras.optimizers.MultiOptimizer(lambda _: SVAG(0.1, ell=2)), cross_entropy())
    with pytest.raises(ValueError, match="`optimizer` must not.*Received: MultiOptimizer.*single"):
        model.train_step(data(8))


def test_k4_other_optimizers_inside_another_one_take_the_step_of_the_whole_batch():
    x, y = data(8)
    ends = []
    for wrap in (lambda m: m, from_keras):
        chosen = keras.optimizers.OptimizerMap(
            keras.optimizers.SGD(0.1), {".*bias": keras.optimizers.SGD(0.2)}
        )
        model = wrap(tanh_net())
        model.compile(keras.optimizers.MultiOptimizer(chosen), cross_entropy(), jit_compile=False)
        model.fit(x, y, batch_size=8, verbose=0)
        ends.append(flatten(model.get_weights()))
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: SVAG(0.1, ell=5), lambda: keras.optimizers.SGD(0.1)])
def test_k6_sparse_inputs_are_trained_as_dense_ones(make):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(27, 6)) * (rng.random((27, 6)) < 0.3)
    y = rng.integers(2, size=27)
    outcomes = []
    for is_sparse in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,), sparse=is_sparse)
        model = from_keras(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
        # XLA has no kernels for sparse tensors of TensorFlow, also in Keras.
        model.compile(make(), cross_entropy(), metrics=["accuracy"], jit_compile=False)
        # Batches of 10, 10 and 7.
        inputs = scipy.sparse.csr_matrix(x) if is_sparse else x
        history = model.fit(inputs, y, batch_size=10, shuffle=False, verbose=0).history
        outcomes.append((flatten(model.get_weights()), history))
    np.testing.assert_allclose(outcomes[1][0], outcomes[0][0], rtol=0, atol=1e-6)
    for name, values in outcomes[0][1].items():
        np.testing.assert_allclose(outcomes[1][1][name], values, rtol=1e-4, err_msg=name)
