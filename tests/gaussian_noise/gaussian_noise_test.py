"""`GaussianNoiseLoop`, against networks differentiated by hand and enumeration."""

import itertools

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.gaussian_noise import GaussianNoiseLoop
from keras_svag.theory import standard_normals
from tests.oracles import TanhNet, flatten, softmax

N = 10  # examples; no multiple of most chunk sizes


def cross_entropy(**options):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True, **options)


def examples(count=N):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)).astype("float32")
    return x, rng.integers(2, size=count).astype("int32")


def tanh_net(hidden=4, regularizer=None):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    layer = keras.layers.Dense(hidden, activation="tanh", kernel_regularizer=regularizer)
    return keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))


def compiled(model, loss=None, **options):
    model.compile(loss=loss or cross_entropy(), metrics=["accuracy"], **options)
    return model


def unflatten(vector, like):
    parts = np.split(vector, np.cumsum([w.size for w in like])[:-1])
    return [part.reshape(w.shape) for part, w in zip(parts, like)]


def numpy_steps(weights, data, normals, batch_size, rates, noise_steps, decay, importance):
    """The same training in float64; also loss and accuracy, averaged over the steps.

    Written with mini-batch noise in mind: the gradient is the mean over examples, plus noise
    `sqrt(m / B) 1/sqrt(n) sum_i z_i (g_i - g)`.
    """
    x, y = data[0].astype(np.float64), data[1]
    logs = []
    for z, rate in zip(normals, rates):
        rows = importance[:, None] * TanhNet.example_gradients(weights, x, y)
        mean = rows.mean(axis=0)
        noise = np.sqrt(noise_steps / batch_size) * z @ (rows - mean) / np.sqrt(len(x))
        w1, b1, w2, b2 = weights
        probabilities = softmax(np.tanh(x @ w1 + b1) @ w2 + b2)
        losses = -np.log(probabilities[np.arange(len(y)), y])
        logs.append((np.mean(importance * losses), np.mean(probabilities.argmax(axis=1) == y)))
        old = flatten(weights)
        new = old - rate / noise_steps * (mean + noise + decay * old)
        weights = unflatten(new, weights)
    return flatten(weights), np.mean(logs, axis=0)


@pytest.fixture(scope="module")
def shared_loop():
    return GaussianNoiseLoop(compiled(tanh_net()), examples(), chunk_size=4, steps_per_call=5)


@pytest.fixture
def loop(shared_loop):
    """A loop over ten examples in chunks of 4, 4 and 2; compiled once, its network as new."""
    shared_loop._model.set_weights(tanh_net().get_weights())
    return shared_loop


def train(loop, *arguments, **options):
    """Runs the loop; returns the weights as a vector, and the logs."""
    steps, logs = loop.run(*arguments, **options)
    assert steps == len(arguments[0])
    return flatten(loop._model.get_weights()), logs


def assert_like_numpy(loop, importance, noise_steps):
    data, rates = examples(), 0.3 * 0.8 ** np.arange(7)
    normals = standard_normals(N, seed=2, start=0, stop=7)
    start = [w.astype(np.float64) for w in loop._model.get_weights()]
    end, logs = train(loop, normals, 2, rates, noise_steps, weight_decay=0.1)
    expected, (loss, accuracy) = numpy_steps(
        start, data, normals, 2, rates, noise_steps, 0.1, importance
    )
    assert np.abs(expected - flatten(start)).max() > 0.05
    # float32: some 1e-7 a step
    np.testing.assert_allclose(end, expected, rtol=0, atol=3e-6)
    # Seven steps are two calls of the program: the logs are of all if the second goes on.
    assert logs["loss"] == pytest.approx(loss, rel=1e-5)
    assert logs["accuracy"] == pytest.approx(accuracy, rel=1e-5)


@pytest.mark.parametrize("noise_steps", [1, 16])
def test_steps_are_those_of_numpy(loop, noise_steps):
    assert_like_numpy(loop, np.ones(N), noise_steps)


def test_steps_with_sample_weights_are_those_of_numpy():
    importance = np.linspace(0.5, 2.0, N)
    data = (*examples(), importance.astype("float32"))
    assert_like_numpy(GaussianNoiseLoop(compiled(tanh_net()), data, 4, 5), importance, 4)


@pytest.mark.parametrize("batch_size, noise_steps", [(1, 1), (2, 1), (2, 64)])
def test_noise_has_exactly_the_covariance_of_a_mini_batch(loop, batch_size, noise_steps):
    # The step is affine in the normals, so its covariance is the sum over the standard basis of
    # the outer products of what each basis vector changes. The reference: all mini-batches drawn
    # with replacement, gradients by hand in float64.
    (x, y), start = examples(), loop._model.get_weights()
    # A step of 100 g, so that rounding the weights (6e-8) is small beside it.
    size, steps = 100.0, []
    for normals in np.vstack([np.zeros(N), np.eye(N)]):
        loop._model.set_weights(start)
        end, _ = train(loop, normals[None], batch_size, size * noise_steps, noise_steps)
        steps.append((flatten(start) - end) / size)
    per_example = TanhNet.example_gradients(start, x.astype(np.float64), y)
    mean = per_example.mean(axis=0)
    np.testing.assert_allclose(steps[0], mean, rtol=0, atol=1e-5 * np.linalg.norm(mean))
    batches = np.array(list(itertools.product(range(N), repeat=batch_size)))
    expected = noise_steps * np.cov(per_example[batches].mean(axis=1).T, bias=True)
    columns = np.array(steps[1:]) - steps[0]
    error = np.linalg.norm(columns.T @ columns - expected) / np.linalg.norm(expected)
    assert error < 1e-5


def test_without_noise_it_is_full_batch_sgd(loop):
    sgd, data = tanh_net(), examples()
    sgd.compile(keras.optimizers.SGD(0.2, weight_decay=0.05), cross_entropy())
    for _ in range(5):
        sgd.train_on_batch(*data)
    end, _ = train(loop, np.zeros((5, N)), 1, 0.2, weight_decay=0.05)
    np.testing.assert_allclose(end, flatten(sgd.get_weights()), rtol=0, atol=1e-6)


def regularized_net():
    return tanh_net(regularizer=keras.regularizers.L2(0.3))


def test_chunk_size_does_not_matter_and_penalties_count_once():
    data, normals = examples(), standard_normals(N, seed=3, start=0, stop=6)
    ends, logs = [], []
    for chunk_size in (1, 3, 2 * N):
        loop = GaussianNoiseLoop(compiled(regularized_net()), data, chunk_size)
        first, _ = train(loop, normals[:1], 2, 0.1, noise_steps=4)
        end, log = train(loop, normals[1:], 2, 0.1, noise_steps=4, weight_decay=0.1)
        ends.append((first, end))
        logs.append(log)
    for end, log in zip(ends[1:], logs[1:]):
        # The order of sums in float32.
        np.testing.assert_allclose(end, ends[0], rtol=0, atol=1e-6)
        assert log == pytest.approx(logs[0], rel=1e-5)
    # The penalty has the gradient 2 c w, whatever the noise weights.
    start = [w.astype(np.float64) for w in regularized_net().get_weights()]
    expected, _ = numpy_steps(start, data, normals[:1], 2, [0.1], 4, 0.0, np.ones(N))
    expected[: start[0].size] -= 0.1 / 4 * 2 * 0.3 * start[0].ravel()
    np.testing.assert_allclose(ends[0][0], expected, rtol=0, atol=1e-6)


class TwoOutputs(keras.Model):
    """Dict in; a sequence of class scores and a number out."""

    def __init__(self):
        super().__init__()
        self.scores, self.number = keras.layers.Dense(3), keras.layers.Dense(1)

    def call(self, inputs):
        """Returns outputs of shapes `(batch, 4, 3)` and `(batch, 1)`."""
        sequence = inputs["sequence"]
        return self.scores(sequence), self.number(sequence[:, 0] * inputs["scale"])


def test_structures_of_inputs_and_outputs():
    rng = np.random.default_rng(6)
    x = {
        "sequence": rng.normal(size=(N, 4, 2)).astype("float32"),
        "scale": rng.normal(size=(N, 1)).astype("float32"),
    }
    y = rng.integers(3, size=(N, 4)), rng.normal(size=(N, 1)).astype("float32")
    keras.utils.set_random_seed(2)
    model = TwoOutputs()
    model.compile(loss=[cross_entropy(), "mse"])
    loop = GaussianNoiseLoop(model, (x, y), chunk_size=4)
    start = model.get_weights()
    normals = standard_normals(N, seed=1, start=0, stop=1)
    _, logs = loop.run(normals, 5, 1.0)

    kernel, bias, kernel2, bias2 = [w.astype(np.float64) for w in start]
    delta = softmax((x["sequence"] @ kernel + bias).reshape(-1, 3)).reshape(N, 4, 3)
    losses = -np.log(np.take_along_axis(delta, y[0][..., None], 2)).mean(axis=(1, 2))
    delta = (delta - np.eye(3)[y[0]]) / 4
    scaled = x["sequence"][:, 0] * x["scale"]
    residual = scaled @ kernel2 + bias2 - y[1]
    w = 1 + np.sqrt(N / 5) * (normals[0] - normals[0].mean())
    expected = [
        np.einsum("i,itj,itk->jk", w, x["sequence"], delta),
        np.einsum("i,itk->k", w, delta),
        np.einsum("i,ij,ik->jk", w, scaled, 2 * residual),
        np.einsum("i,ik->k", w, 2 * residual),
    ]
    for before, after, gradient in zip(start, model.get_weights(), expected):
        np.testing.assert_allclose(before - after, gradient / N, rtol=0, atol=2e-6)
    total = np.mean(losses) + np.mean(residual**2)
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


def test_one_program_for_all_settings(loop):
    for steps, batch_size, rate, noise_steps, decay in [
        (20, 2, 0.1, 1, 0.0),
        (1, 4, 0.2, 64, 0.1),
        (0, 1, 0.2, 2, 0.1),
        (3, 8, [0.3, 0.2, 0.1], 2.5, 0.2),
    ]:
        train(loop, standard_normals(N, 0, 0, steps), batch_size, rate, noise_steps, decay)
    assert loop.num_traces == 1


def test_steps_do_not_depend_on_how_they_are_cut(loop):
    normals, start = standard_normals(N, seed=3, start=0, stop=12), loop._model.get_weights()
    whole, _ = train(loop, normals, 2, 0.2, 4)
    loop._model.set_weights(start)
    for part in np.split(normals, [1, 9]):
        end, _ = train(loop, part, 2, 0.2, 4)
    np.testing.assert_array_equal(end, whole)


def optimized_hlo(loop, arguments):
    """What XLA makes of the program with many steps."""
    if keras.backend.backend() == "tensorflow":
        tensors = map(keras.ops.convert_to_tensor, arguments)
        return loop._program.experimental_get_compiler_ir(*tensors)(stage="optimized_hlo")
    values = [variable.value for variable in loop._variables]
    program = loop._program.program
    return program.lower(values, loop._chunks, loop._rest, *arguments).compile().as_text()


def test_memory_is_that_of_a_chunk():
    # 53 hidden units: the compiled program has arrays of (chunk, 53), never of (examples, 53).
    model = compiled(tanh_net(hidden=53))
    loop = GaussianNoiseLoop(model, examples(640), chunk_size=20, steps_per_call=2)
    arguments = (np.zeros((2, 640), "float32"), np.zeros(2, "float32"), np.float32(0), 2, True)
    hlo = optimized_hlo(loop, arguments)
    assert "[20,53]" in hlo
    assert "[640,53]" not in hlo and "[32,20,53]" not in hlo


def small_net(*layers):
    return compiled(
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(8), *layers, keras.layers.Dense(2)])
    )


def test_stops_when_the_loss_is_not_finite():
    loop = GaussianNoiseLoop(small_net(), examples(), steps_per_call=4)
    steps, logs = loop.run(np.zeros((50, N)), 1, 1e30)
    assert 1 < steps < 50
    assert not np.isfinite(logs["loss"])


def test_works_on_svag_models(loop):
    normals = standard_normals(N, seed=3, start=0, stop=20)
    svag = compiled(keras_svag.from_keras(tanh_net()), optimizer=keras_svag.SVAG(0.1))
    end, logs = train(loop, normals, 2, 0.1)
    svag_end, svag_logs = train(GaussianNoiseLoop(svag, examples(), 4, 5), normals, 2, 0.1)
    np.testing.assert_array_equal(svag_end, end)
    assert svag_logs == logs


def test_works_in_mixed_precision(loop):
    normals = standard_normals(N, seed=3, start=0, stop=20)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        low = GaussianNoiseLoop(compiled(tanh_net()), examples(), 4)
    finally:
        keras.config.set_dtype_policy("float32")
    # bfloat16 has eight bits.
    expected = train(loop, normals, 2, 0.1)[1]["loss"]
    assert train(low, normals, 2, 0.1)[1]["loss"] == pytest.approx(expected, rel=0.02)


def test_dropout_draws_new_masks():
    model = small_net(keras.layers.Dropout(0.5, seed=1))
    loop = GaussianNoiseLoop(model, examples(), chunk_size=5)
    losses = [loop.run(np.zeros((1, N)), 1, 0.0)[1]["loss"] for _ in range(3)]
    assert len(set(losses)) == 3


def test_batch_norm_is_refused_unless_frozen():
    layer = keras.layers.BatchNormalization()
    model = small_net(layer)
    before = [v.numpy() for v in model.non_trainable_variables]
    with pytest.raises(ValueError, match="independently of the others.*group norm"):
        GaussianNoiseLoop(model, examples())
    for variable, value in zip(model.non_trainable_variables, before):
        np.testing.assert_array_equal(variable, value)
    layer.trainable = False
    model = compiled(model)
    steps, _ = GaussianNoiseLoop(model, examples()).run(np.zeros((3, N)), 1, 0.1)
    assert steps == 3


class Masked(keras.losses.Loss):
    """Squared error over the targets that are positive, divided by how many these are."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns a scalar."""
        used = keras.ops.cast(y_true > 0, y_pred.dtype)
        return keras.ops.sum(used * (y_pred - y_true) ** 2) / (keras.ops.sum(used) + 1.0)


def masked_net():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(loss=Masked())
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: compiled(tanh_net(), cross_entropy(reduction="sum")),
        lambda: small_net(keras.layers.ActivityRegularization(l2=1.0)),
        masked_net,
    ],
    ids=["sum", "activity", "masked"],
)
def test_losses_that_are_no_mean_over_examples_are_refused(build):
    model, (x, y) = build(), examples()
    targets = x[:, :1] if model.output_shape == (None, 1) else y
    with pytest.raises(ValueError, match="must be the mean over the examples"):
        GaussianNoiseLoop(model, (x, targets))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((np.zeros((2, N - 1)), 1, 0.1), r"shape \(steps, 10\).*shape \(2, 9\).*standard_normals"),
        ((np.zeros(N), 1, 0.1), r"normals of shape \(10,\)"),
        ((np.zeros((2, N)), 0, 0.1), "Received: batch_size=0"),
        ((np.zeros((2, N)), 1, -0.1), "Received: learning_rate=-0.1"),
        ((np.zeros((2, N)), 1, [0.1] * 3), "one for each of the 2 steps"),
        ((np.zeros((2, N)), 1, 0.1, 0), "Received: noise_steps=0"),
        ((np.zeros((2, N)), 1, 0.1, 1, -1.0), "Received: weight_decay=-1.0"),
    ],
)
def test_refuses(loop, arguments, message):
    with pytest.raises(ValueError, match=message):
        loop.run(*arguments)


def test_refuses_chunks_of_nothing():
    with pytest.raises(ValueError, match="Received: chunk_size=0"):
        GaussianNoiseLoop(compiled(tanh_net()), examples(), chunk_size=0)


def test_loops_in_python_take_the_same_steps(loop):
    # Nine steps in calls of five; chunks of 4, 4 and 2; inputs stored at four times their size.
    normals = standard_normals(N, seed=3, start=0, stop=9)
    expected, expected_logs = train(loop, normals, 2, 0.3, 2, 0.1)
    x, y = examples()
    options = {"prepare": lambda x: x / 4, "fuse_steps": False}
    outside = GaussianNoiseLoop(compiled(tanh_net()), (4 * x, y), 4, 5, **options)
    got, logs = train(outside, normals, 2, 0.3, 2, 0.1)
    # The same sums in other programs: float32 rounding over nine steps.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert logs == pytest.approx(expected_logs, rel=1e-5)
