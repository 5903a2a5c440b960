"""The same numbers on 1, 2 and 4 replicas: virtual CPU devices, a process for each count."""

import keras
import numpy as np
import pytest

from tests.distribution import on_replicas
from tests.mlp_oracle import DigitsNet
from tests.noise.problem import estimates, exact

IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
# Sums of floats in another order: some 1e-7 a step, over 100 steps.
CLOSE = {"rtol": 0, "atol": 1e-5}


def arrays(results, prefix):
    return [results[f"{prefix}_{i}"] for i in range(len(results)) if f"{prefix}_{i}" in results]


def assert_same_arrays(one, many, prefix):
    one, many = arrays(one, prefix), arrays(many, prefix)
    assert len(one) == len(many) > 0
    for a, b in zip(one, many):
        np.testing.assert_allclose(b, a, **CLOSE)


def assert_same_training(one, many):
    """Weights and logs after 100 steps of `fit` and of the loop of the studies."""
    for prefix in ("fit", "resident"):
        assert_same_arrays(one, many, prefix)
    for prefix in ("fit", "resident", "evaluated"):
        for name in ("loss", "accuracy"):
            key = f"{prefix}_{name}"
            np.testing.assert_allclose(many[key], one[key], **CLOSE, err_msg=key)
    # The logs are those of all replicas, whichever way the steps were taken.
    for name in on_replicas.NOISE:
        fit, resident = many[f"fit_{name}"], many[f"resident_{name}"]
        np.testing.assert_allclose(fit, resident, rtol=1e-4, err_msg=name)
        if not IS_TENSORFLOW:  # there they come from the local halves
            np.testing.assert_allclose(fit, one[f"fit_{name}"], rtol=1e-4, err_msg=name)
    for a, b in zip(arrays(one, "fit"), arrays(one, "resident")):
        np.testing.assert_allclose(b, a, **CLOSE)
    # Something was learned that could differ.
    assert one["resident_steps"] == many["resident_steps"] == 100
    assert one["evaluated_loss"] < 1.8 < np.log(10)


def check_noise_of_a_train_step_of_its_own(two):
    """P5, P8: N and G from the gradients of replicas, or of micro-batches over JAX devices."""
    # Batches of 8: N is of the 4 examples of a replica, on JAX of the 8 of a micro-batch.
    assert two["own_sizes"].tolist() == ([8, 8] if IS_TENSORFLOW else [16, 8])
    found = [two["own_noise"] * (4 if IS_TENSORFLOW else 8), two["own_signal"]]
    for values, expected in zip(found, exact()):
        error = values.std(ddof=1) / len(values) ** 0.5
        assert abs(values.mean() - expected) < 2 * error < 0.2 * expected
    if not IS_TENSORFLOW:
        assert "JAX adds up the gradients of all devices" in str(two["hand_refused"])
        return
    noise, signal = estimates(np.array([[1.0, 4.0], [3.0, 2.0]]))
    names = ("gradient_noise", "gradient_signal", "noise_to_signal", "noise_scale")
    # 4 is the harmonic mean of 3 and 6.
    expected = [noise, signal, noise / signal, 4 * noise / signal]
    np.testing.assert_allclose([two[f"hand_{name}"] for name in names], expected, rtol=1e-6)


def assert_same_pairs(one, many):
    """19 batches of a plain model: nine pairs, and a first half that is stored."""
    assert many["pair_iterations"] == 9
    for prefix in ("pair", "stored"):  # what is stored is the sum over all replicas
        assert_same_arrays(one, many, prefix)
    assert max(np.abs(a).max() for a in arrays(many, "stored")) > 0.01


def assert_measured_on_local_halves(results, replicas):
    """N of each replica's halves is that of B / replicas examples; both are averaged."""
    shares = np.split(results["measured_gradients"], replicas if IS_TENSORFLOW else 1)
    halves = [(share[0::2].mean(axis=0), share[1::2].mean(axis=0)) for share in shares]
    noise = np.mean([np.sum((g1 - g2) ** 2) / 2 for g1, g2 in halves]) / len(shares)
    signal = np.mean([g1 @ g2 for g1, g2 in halves])
    np.testing.assert_allclose(results["measured"], [noise, signal, noise / signal], rtol=1e-5)


def check_overflow(result, count):
    """An overflow on one of `count` replicas skips the step on all, by Keras' rule."""
    kernels = result["overflow_kernel"]
    assert kernels.shape[1] == count and np.isfinite(kernels).all()
    for replica in range(count):
        np.testing.assert_array_equal(kernels[:, replica], kernels[:, 0])
    assert np.isfinite(result["overflow_noise"]).all()
    # Keras' rule: half the scale after an overflow, twice after three good steps.
    taken, scale, good = 0, 2.0**20, 0
    for i in range(20):
        if result["overflow_iterations"][i] == taken:
            scale, good = scale / 2, 0
            before = kernels[i - 1] if i else np.ones_like(kernels[0])
            np.testing.assert_array_equal(kernels[i], before)
        else:
            taken, good = taken + 1, good + 1
            if good == 3:
                scale, good = 2 * scale, 0
        assert (result["overflow_iterations"][i], result["overflow_scale"][i]) == (taken, scale)
    assert result["overflow_iterations"][0] == 0 and 5 < taken < 20
    assert np.abs(kernels[-1] - 1).max() > 0.01


def test_two_replicas_train_as_one_device_without_a_strategy(tmp_path):
    parts = (on_replicas.fitted, on_replicas.resident, on_replicas.paired)
    one = {name: value for part in parts for name, value in part().items()}
    names = [part.__name__ for part in parts]
    names += ["sampled", "refused", "advised", "measured", "own_step", "noise_of_replicas"]
    names += ["overflow"]
    two = on_replicas.on_replicas(2, tmp_path / "two.npz", *names)
    assert_same_training(one, two)
    assert_same_pairs(one, two)
    assert_measured_on_local_halves(two, 2)
    # The data set counts its epochs as it does without a strategy.
    for a, b in zip(arrays(two, "sampled"), arrays(two, "by_array"), strict=True):
        np.testing.assert_allclose(a, b, **CLOSE)
    # The first call traces; later ones, of fewer steps too, do not.
    assert two["resident_traces"] == 1
    # P1, P2: advice under MirroredStrategy and under data parallelism of JAX.
    np.testing.assert_array_equal(two["advised"], two["advised_expected"])
    assert np.isfinite(two["advised_numbers"]).all()
    check_noise_of_a_train_step_of_its_own(two)
    check_overflow(two, 2)
    assert "must be a multiple of 4, twice the number of replicas" in str(two["refused"])
    assert "Received: batch_size=18" in str(two["refused"])


ALL = (
    *("fitted", "paired", "resident", "batch_norm", "synchronized", "sampled", "frozen"),
    *("mixed_precision", "overflow"),
)
COUNTS = [2, 4]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Dict of the results on 1, 2 and 4 replicas, each under a strategy."""
    folder = tmp_path_factory.mktemp("replicas")
    return {n: on_replicas.on_replicas(n, folder / f"{n}.npz", *ALL) for n in (1, *COUNTS)}


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_training(results, count):
    assert_same_training(results[1], results[count])


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_plain_model_pairs_batches(results, count):
    assert_same_pairs(results[1], results[count])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, *COUNTS])
def test_noise_and_signal_in_expectation(results, count):
    x, y = on_replicas.some_digits()
    kernels = [w.astype(np.float64) for w in arrays(results[1], "frozen")]
    each = []
    for i in range(len(x)):
        gradients = DigitsNet().gradient(kernels, x[i : i + 1], y[i : i + 1])
        each.append(np.concatenate([gradient.ravel() for gradient in gradients[:2]]))
    # Drawn with replacement: tr Sigma_1 / B and |grad L|^2 over the table of examples.
    expected = {
        "noise": np.var(each, axis=0).sum() / on_replicas.B,
        "signal": np.square(np.mean(each, axis=0)).sum(),
    }
    for name, value in expected.items():
        chunks = results[count][name]
        assert len(chunks) == on_replicas.FROZEN_STEPS / on_replicas.FROZEN_CHUNK
        error = np.std(chunks, ddof=1) / len(chunks) ** 0.5
        assert abs(np.mean(chunks) - value) < 3 * error, (name, np.mean(chunks), value, error)
        # So precise that a factor of 2 from the number of replicas would be seen.
        assert error < 0.15 * value


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_batch_norm(results, count):
    one, many = arrays(results[1], "bn"), arrays(results[count], "bn")
    differences = [np.abs(a - b).max() for a, b in zip(one, many)]
    if IS_TENSORFLOW:
        # Statistics of each replica's share, as documented.
        assert max(differences) > 1e-3
    else:
        assert max(differences) < 1e-5
        np.testing.assert_allclose(results[1]["bn_loss"], results[count]["bn_loss"], **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_synchronized_batch_norm(results, count):
    # Moving averages are among the weights: statistics are those of the whole half.
    assert_same_arrays(results[1], results[count], "sync")


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_sampled_batches_are_those_of_one_device(results, count):
    assert_same_arrays(results[1], results[count], "sampled")
    for n in (1, count):
        for a, b in zip(arrays(results[n], "sampled"), arrays(results[n], "by_array")):
            np.testing.assert_allclose(a, b, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("count", COUNTS)
def test_mixed_precision(results, count):
    one, many = results[1], results[count]
    for results_of in (one, many):  # no step overflows here
        assert results_of["half_iterations"] == 20 and results_of["half_scale"] == 2.0**15
    # Gradients of shares are rounded to 11 bits each, and the rounding is amplified as noise is.
    moved = max(np.abs(a).max() for a in arrays(one, "half_moved"))
    for a, b in zip(arrays(one, "half"), arrays(many, "half"), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=0.003 * moved)
    np.testing.assert_allclose(many["half_loss"], one["half_loss"], rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, *COUNTS])
def test_overflow_on_one_replica_skips_the_step_on_all(results, count):
    check_overflow(results[count], count)
