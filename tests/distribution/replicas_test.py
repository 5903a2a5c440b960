"""The same numbers on 1, 2 and 4 replicas: virtual CPU devices, a process for each count."""

import keras
import numpy as np
import pytest

from tests.distribution.on_replicas import B, on_replicas, some_digits
from tests.mlp_oracle import DigitsNet

IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
COUNTS = [2, pytest.param(4, marks=pytest.mark.slow)]
# Sums of floats in another order: some 1e-7 a step, over 100 steps.
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Function that gives the results on a number of replicas; each is trained once."""
    folder, cache = tmp_path_factory.mktemp("replicas"), {}

    def on(replicas):
        if replicas not in cache:
            cache[replicas] = on_replicas(replicas, folder / f"{replicas}.npz", frozen_steps=500)
        return cache[replicas]

    return on


def arrays(results, prefix):
    return [results[f"{prefix}_{i}"] for i in range(len(results)) if f"{prefix}_{i}" in results]


def assert_same(results, count, prefix):
    one, many = arrays(results(1), prefix), arrays(results(count), prefix)
    assert len(one) == len(many) > 0
    for a, b in zip(one, many):
        np.testing.assert_allclose(b, a, **CLOSE)


@pytest.mark.parametrize("prefix", ["fit", "resident"])
@pytest.mark.parametrize("count", COUNTS)
def test_weights_after_100_steps(results, count, prefix):
    assert_same(results, count, prefix)
    # They have moved, and `fit` and the loop of the studies took the same steps.
    start = arrays(results(1), "frozen")
    assert np.abs(arrays(results(1), prefix)[0] - start[0]).max() > 0.1
    for a, b in zip(arrays(results(1), "fit"), arrays(results(1), "resident")):
        np.testing.assert_allclose(b, a, **CLOSE)


@pytest.mark.parametrize("count", COUNTS)
def test_logs_are_those_of_all_replicas(results, count):
    for prefix in ("fit", "resident", "evaluated"):
        for name in ("loss", "accuracy"):
            a, b = results(1)[f"{prefix}_{name}"], results(count)[f"{prefix}_{name}"]
            np.testing.assert_allclose(b, a, **CLOSE, err_msg=f"{prefix} {name}")
    for name in ("gradient_noise", "gradient_signal", "noise_to_signal"):
        fit, resident = results(count)[f"fit_{name}"], results(count)[f"resident_{name}"]
        np.testing.assert_allclose(fit, resident, rtol=1e-4, err_msg=name)
        if not IS_TENSORFLOW:  # there they come from the local halves
            np.testing.assert_allclose(fit, results(1)[f"fit_{name}"], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("count", COUNTS)
def test_plain_model_pairs_batches(results, count):
    # 19 batches: nine pairs and a first half that is stored, the sum over all replicas.
    assert results(count)["pair_iterations"] == 9
    assert_same(results, count, "pair")
    assert_same(results, count, "stored")
    assert max(np.abs(a).max() for a in arrays(results(count), "stored")) > 0.01


@pytest.mark.parametrize("count", [1, *COUNTS])
def test_noise_and_signal_in_expectation(results, count):
    x, y = some_digits()
    kernels = [w.astype(np.float64) for w in arrays(results(1), "frozen")]
    each = []
    for i in range(len(x)):
        gradients = DigitsNet().gradient(kernels, x[i : i + 1], y[i : i + 1])
        each.append(np.concatenate([gradient.ravel() for gradient in gradients]))
    # Drawn with replacement: tr Sigma_1 / B and |grad L|^2 over the table of examples.
    expected = {
        "noise": np.var(each, axis=0).sum() / B,
        "signal": np.square(np.mean(each, axis=0)).sum(),
    }
    for name, value in expected.items():
        chunks = results(count)[name]
        assert len(chunks) == 50
        error = np.std(chunks, ddof=1) / len(chunks) ** 0.5
        assert abs(np.mean(chunks) - value) < 3 * error, (name, np.mean(chunks), value, error)
        assert error < 0.15 * value


@pytest.mark.parametrize("count", COUNTS)
def test_batch_norm(results, count):
    one, many = arrays(results(1), "bn"), arrays(results(count), "bn")
    differences = [np.abs(a - b).max() for a, b in zip(one, many)]
    if IS_TENSORFLOW:
        # Statistics of each replica's share, as documented.
        assert max(differences) > 1e-3
    else:
        assert max(differences) < 1e-5
        np.testing.assert_allclose(results(1)["bn_loss"], results(count)["bn_loss"], **CLOSE)


def test_the_loop_is_traced_once(results):
    # The first call traces, later ones, of fewer steps too, do not.
    assert results(2)["resident_traces"] == 1
    assert results(2)["resident_steps"] == 100
