"""Tests of keras_svag/models/gpt.py."""

import math

import keras
import numpy as np
import pytest

from keras_svag.models import gpt

LENGTH, TOKENS = 7, 11


def network(**options):
    return gpt((LENGTH,), TOKENS, **{"depth": 2, "width": 8, "num_heads": 2, "seed": 0, **options})


def some_tokens(count=3):
    return np.random.default_rng(0).integers(TOKENS, size=(count, LENGTH)).astype("int32")


def normalized(x, scale, offset):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale + offset


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x, kernel, bias, num_heads):
    """Causal self-attention, head by head and position by position."""
    query, key, value = np.split(x @ kernel + bias, 3, axis=-1)
    size = x.shape[-1] // num_heads
    result = np.zeros_like(x)
    for head in range(num_heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(x.shape[1]):
            scores = np.einsum("bd,bjd->bj", query[:, i, part], key[:, : i + 1, part])
            weights = np.exp(scores / math.sqrt(size))
            weights /= weights.sum(-1, keepdims=True)
            result[:, i, part] = np.einsum("bj,bjd->bd", weights, value[:, : i + 1, part])
    return result


def logits(model, tokens, depth=2, num_heads=2):
    """The logits by NumPy, in float64."""
    weights = {w.path: np.asarray(w, np.float64) for w in model.weights}

    def dense(x, name):
        return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]

    def norm(x, name):
        return normalized(x, weights[f"{name}/gamma"], weights[f"{name}/beta"])

    x = weights["tokens/embeddings"][tokens] + weights["positions/vectors"]
    for i in range(depth):
        name = f"query_key_value_{i}"
        y = norm(x, f"attention_norm_{i}")
        y = attention(y, weights[f"{name}/kernel"], weights[f"{name}/bias"], num_heads)
        x = x + dense(y, f"attention_{i}")
        y = gelu(dense(norm(x, f"perceptron_norm_{i}"), f"hidden_{i}"))
        x = x + dense(y, f"perceptron_{i}")
    return norm(x, "last_norm") @ weights["logits/kernel"]


def test_logits_are_those_of_numpy():
    model = network()
    rng = np.random.default_rng(1)
    for weight in model.weights:  # larger than the initial ones, so that nothing is nearly linear
        weight.assign(weight + rng.normal(scale=0.3, size=weight.shape))
    # Sums of at most 32 terms of order 1 in float32, through two blocks.
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model(some_tokens())),
        logits(model, some_tokens()),
        atol=1e-4,
    )


def test_initial_weights():
    model = network(depth=8, width=64, num_heads=4)
    for layer, stddev in [("query_key_value_3", 0.02), ("perceptron_7", 0.02 / 4)]:
        kernel = np.asarray(model.get_layer(layer).kernel)
        assert kernel.std() == pytest.approx(stddev, rel=4 / math.sqrt(2 * kernel.size))
    again, other = network(), network(seed=1)
    pairs = list(zip(network().get_weights(), again.get_weights(), other.get_weights()))
    assert all((a == b).all() for a, b, _ in pairs)
    assert sum((a != c).any() for a, _, c in pairs) == 4 * 2 + 3  # all that are drawn


def test_it_can_be_saved(tmp_path):
    model = network()
    model.save(tmp_path / "gpt.keras")
    restored = keras.saving.load_model(tmp_path / "gpt.keras")
    np.testing.assert_array_equal(
        restored.predict(some_tokens(), verbose=0), model.predict(some_tokens(), verbose=0)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "`depth` must be an integer >= 1"),
        ({"width": 9}, "`width` must be a multiple of `num_heads`.*width=9, num_heads=2"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_images_are_refused():
    with pytest.raises(ValueError, match=r"must be \(length,\).*\(8, 8\)"):
        gpt((8, 8), 10)
