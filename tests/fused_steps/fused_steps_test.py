"""`steps_per_execution=K` in one XLA program: the same training as K = 1, whatever feeds it.

The reference is Keras' own loop over single steps, op by op (on JAX that would take minutes: there
each step is compiled). Both compute the same in float32 but may add up in another order: 1e-6 on
weights of order 1 after some ten steps.
"""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.fused_steps import FusedSteps
from tests.oracles import TanhNet, flatten

K = 4
JAX = keras.backend.backend() == "jax"


def data(count=46, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)).astype("float32"), rng.integers(2, size=count)


def network(dropout=False):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, activation="tanh")(inputs)
    if dropout:
        x = keras.layers.BatchNormalization(momentum=0.5)(x)
        x = keras.layers.Dropout(0.5, seed=1)(x)
        x = keras.layers.ActivityRegularization(l2=0.1)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def compiled(model, steps, jit=True, optimizer=None, **options):
    model = keras_svag.from_keras(model)
    model.compile(
        optimizer or keras_svag.SVAG(0.2, ell=3.0, weight_decay=0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=jit,
        steps_per_execution=steps,
        **options,
    )
    return model


def train(steps, make_data, network=network, jit=False, **options):
    model = compiled(network(), steps, jit=jit or JAX or steps > 1)
    history = model.fit(*make_data(), shuffle=False, verbose=0, **options).history
    assert isinstance(model.train_function, FusedSteps) == (steps > 1)
    return flatten([v.numpy() for v in model.variables if v.dtype == "float32"]), history, model


def assert_same_training(make_data, network=network, **options):
    (one, history, reference), (many, other, model) = (
        train(steps, make_data, network, **options) for steps in (1, K)
    )
    np.testing.assert_allclose(one, many, rtol=0, atol=1e-6)
    assert history.keys() == other.keys()
    for name, values in history.items():
        # N/G divides by a G that may be small.
        np.testing.assert_allclose(values, other[name], rtol=1e-3 if "signal" in name else 1e-5)
    assert int(reference.optimizer.iterations) == int(model.optimizer.iterations)
    return int(model.optimizer.iterations)


def test_arrays_whose_last_group_and_last_batch_are_short():
    # 5 batches of 8 and one of 6: groups of K = 4 and 2, the second of two shapes.
    x, y = data()
    steps = assert_same_training(lambda: (x, y), batch_size=8, epochs=3, validation_data=(x, y))
    assert steps == 3 * 6


def test_state_of_layers_and_losses_of_layers():
    # Moving averages, seeds of dropout (two a step), `add_loss`. Op by op TensorFlow draws others.
    x, y = data(40)
    assert_same_training(
        lambda: (x, y), lambda: network(dropout=True), jit=True, batch_size=8, epochs=2
    )


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_batches_of_many_shapes_from_a_generator():
    x, y = data()
    sizes = [8, 8, 6, 6, 6, 8, 8, 2, 6]

    def batches():
        starts = np.cumsum([0, *sizes])
        for start, stop in zip(starts, starts[1:]):
            rows = np.arange(start, stop) % len(x)
            yield x[rows], y[rows], 0.5 + y[rows]

    # Of unknown length: the end of the data ends the epoch, within a group. (Op by op, Keras would
    # have counted a step and decayed the weights before it sees that there is no batch.)
    assert assert_same_training(lambda: (batches(),), jit=True) == len(sizes)


def test_a_data_set_with_dict_inputs_and_epochs_of_fixed_length():
    x, y = data(48)

    class Batches(keras.utils.PyDataset):
        buffer = np.empty((8, 3), "float32")

        def __len__(self):
            return 6

        def __getitem__(self, i):
            # The same memory for each batch, as some readers do it.
            rows = slice(8 * i, 8 * i + 8)
            self.buffer[:] = x[rows]
            return {"a": self.buffer[:, :1], "b": self.buffer[:, 1:]}, y[rows]

    def of_dicts():
        keras.utils.set_random_seed(3)
        inputs = {"a": keras.Input((1,), name="a"), "b": keras.Input((2,), name="b")}
        joined = keras.layers.Concatenate()([inputs["a"], inputs["b"]])
        return keras.Model(inputs, keras.layers.Dense(2)(joined))

    steps = assert_same_training(lambda: (Batches(),), of_dicts, epochs=2)
    assert steps == 12


@pytest.mark.parametrize("place", [np.asarray, keras.ops.convert_to_tensor], ids=["host", "device"])
def test_weights_are_those_of_the_formula(place):
    # Not against Keras but by hand: two groups of K steps, then one of 1.
    x, y = data(9 * 8)
    model = compiled(network(), K)
    weights = [np.float64(w) for w in model.get_weights()]
    sizes = np.cumsum([w.size for w in weights])[:-1]
    eta, ell, decay = 0.2, 3.0, 0.01
    noises = []
    for start in range(0, len(x), 8):
        rows = slice(start, start + 8)
        gradients = TanhNet.example_gradients(weights, np.float64(x[rows]), y[rows])
        g1, g2 = gradients[::2].mean(axis=0), gradients[1::2].mean(axis=0)
        noises.append(np.sum((g1 - g2) ** 2) / 2)
        s = np.sqrt(2 * ell - 1)
        g = np.split((1 + s) / 2 * g1 + (1 - s) / 2 * g2, sizes)
        weights = [
            w - eta / ell * decay * w - eta / ell * part.reshape(w.shape)
            for w, part in zip(weights, g)
        ]
    history = model.fit(place(x), place(y), batch_size=8, shuffle=False, verbose=0).history
    np.testing.assert_allclose(flatten(model.get_weights()), flatten(weights), rtol=0, atol=2e-6)
    np.testing.assert_allclose(history["gradient_noise"], [np.mean(noises)], rtol=1e-5)


class Recorder(keras.callbacks.Callback):
    """Steps and losses as callbacks see them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((batch, int(self.model.optimizer.iterations), float(logs["loss"])))


def test_callbacks_are_called_once_a_group_with_the_logs_so_far():
    x, y = data(6 * 8)
    seen = []
    for steps in (1, K):
        recorder = Recorder()
        model = compiled(network(), steps, jit=JAX or steps > 1)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[recorder])
        seen.append(recorder.seen)
    one, many = seen
    # Keras numbers the last batch of a group as if the group were full.
    assert [(batch, taken) for batch, taken, _ in many] == [(3, 4), (7, 6)]
    np.testing.assert_allclose([row[2] for row in many], [one[3][2], one[5][2]], rtol=1e-5)


def test_traced_once_and_for_all_ells_and_epochs(monkeypatch):
    traces = []
    step = keras_svag.SVAGModel._split_step

    def counting(self, first, *rest):
        traces.append(first[0].shape[0])
        return step(self, first, *rest)

    monkeypatch.setattr(keras_svag.SVAGModel, "_split_step", counting)
    x, y = data()
    model = compiled(network(), K)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    before = len(traces)
    # On TensorFlow Keras traces twice when it builds state on the way, for all shapes. On JAX a
    # shape is traced in the loop, and for a batch that has no other of its shape beside it.
    assert all(traces.count(shape) <= 2 for shape in traces)
    model.optimizer.ell = 7.5
    model.fit(x, y, batch_size=8, verbose=0)
    model.set_weights(network().get_weights())
    model.fit(*data(seed=5), batch_size=8, verbose=0)
    assert len(traces) == before


def test_single_batches_and_epochs_shorter_than_a_group():
    x, y = data(16)
    model, reference = compiled(network(), K), compiled(network(), 1, jit=JAX)
    for m in (model, reference):
        m.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        m.train_on_batch(x, y)
    assert int(model.optimizer.iterations) == 3
    np.testing.assert_allclose(
        flatten(model.get_weights()), flatten(reference.get_weights()), rtol=0, atol=1e-6
    )


class OwnMetrics(keras.Model):
    """A subclassed model whose logs are not the results of its metrics alone."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "largest": keras.ops.max(y_pred)}


class OwnStep(keras_svag.SVAGModel):
    """A model whose train step does something besides."""

    def train_step(self, *arguments):
        return super().train_step(*arguments)


def own_step():
    inputs = keras.Input((3,))
    return OwnStep(inputs, keras.layers.Dense(2)(inputs))


def convolution():
    layers = [keras.Input((4, 4, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "make, steps, options, inside",
    [
        (network, K, {}, True),
        (network, 1, {}, False),
        (network, K, {"jit": False}, False),
        (convolution, K, {}, False),  # on the CPU, where tests run
        (OwnMetrics, K, {}, False),
        (own_step, K, {}, False),
        (lambda: keras.Sequential([keras.layers.Dense(2)]), K, {}, True),
    ],
    ids=["mlp", "one_step", "no_jit", "convolution", "own_logs", "own_step", "unbuilt"],
)
def test_rule(make, steps, options, inside):
    model = compiled(make(), steps, **options)
    model.make_train_function()
    assert isinstance(model.train_function, FusedSteps) == inside


def test_own_logs_are_kept():
    x, y = data(16)
    plain = OwnMetrics()
    plain(x)
    model = compiled(plain, 2, optimizer=keras_svag.SVAG(0.0))
    largest = np.max(plain(x[8:]))
    history = model.fit(x, y, batch_size=8, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["largest"], [largest], rtol=1e-5)


def test_convolutions_keep_the_loop_of_keras():
    x, y = np.random.default_rng(0).normal(size=(24, 4, 4, 1)), data(24)[1]
    ends = []
    for steps in (1, 2):
        keras.utils.set_random_seed(1)
        model = compiled(convolution(), steps, jit=JAX or steps > 1)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0)
        ends.append(flatten(model.get_weights()))
    np.testing.assert_allclose(*ends, rtol=0, atol=1e-6)
