"""A small GPT: a causal pre-norm transformer over tokens."""

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from keras_svag._checks import positive_int

STDDEV = 0.02  # of all weights, as in GPT-2


def gpt(
    input_shape: Sequence[int],
    num_classes: int,
    depth: int = 2,
    width: int = 64,
    num_heads: int = 4,
    seed: int | None = None,
) -> keras.Model:
    """Decoder-only transformer that predicts the next token at each position.

    As GPT-2 (Radford et al. 2019): embeddings of tokens and positions; `depth` blocks of causal
    self-attention and a two-layer perceptron with GELU, four times as wide, each after a layer norm
    and added to its input; a last layer norm, and a dense layer to the logits. Weights are drawn
    with standard deviation 0.02, those that end a branch with 0.02 / sqrt(2 depth). There is no
    dropout. The loss is not scale invariant.

    Args:
        input_shape: shape `(length,)` of one example, a window of tokens.
        num_classes: int, number of different tokens.
        depth: int, number of blocks. Defaults to `2`.
        width: int, dimension of the embeddings, a multiple of `num_heads`. Defaults to `64`.
        num_heads: int, number of attention heads. Defaults to `4`.
        seed: int for the initial weights. Defaults to `None`: different ones on each call.

    Returns:
        A functional `keras.Model` from int tokens of shape `(batch, length)` to logits of shape
        `(batch, length, num_classes)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> gpt((32,), 84).output_shape
    (None, 32, 84)
    """
    depth, width = positive_int("depth", depth), positive_int("width", width)
    num_heads = positive_int("num_heads", num_heads)
    num_classes = positive_int("num_classes", num_classes)
    if len(input_shape) != 1:
        raise ValueError(
            "`input_shape` must be (length,), the length of a window of tokens. "
            f"Received: input_shape={tuple(input_shape)}"
        )
    if width % num_heads:
        raise ValueError(
            "`width` must be a multiple of `num_heads`. "
            f"Received: width={width}, num_heads={num_heads}"
        )
    seeds = iter(np.random.SeedSequence(seed).generate_state(4 * depth + 3).tolist())

    def normal(stddev=STDDEV):
        return keras.initializers.RandomNormal(stddev=stddev, seed=next(seeds))

    def dense(units, name, stddev=STDDEV, **options):
        return layers.Dense(units, kernel_initializer=normal(stddev), name=name, **options)

    [length] = input_shape
    end = STDDEV / math.sqrt(2 * depth)
    tokens = keras.Input((length,), dtype="int32")
    x = layers.Embedding(num_classes, width, embeddings_initializer=normal(), name="tokens")(tokens)
    x = AddPositions(normal(), name="positions")(x)
    for i in range(depth):
        y = layers.LayerNormalization(epsilon=1e-5, name=f"attention_norm_{i}")(x)
        y = dense(3 * width, f"query_key_value_{i}")(y)
        y = ops.reshape(y, (-1, length, 3, num_heads, width // num_heads))
        y = ops.dot_product_attention(*ops.unstack(y, axis=2), is_causal=True)
        y = dense(width, f"attention_{i}", end)(ops.reshape(y, (-1, length, width)))
        x = layers.Add()([x, y])
        y = layers.LayerNormalization(epsilon=1e-5, name=f"perceptron_norm_{i}")(x)
        y = dense(4 * width, f"hidden_{i}", activation="gelu")(y)
        x = layers.Add()([x, dense(width, f"perceptron_{i}", end)(y)])
    x = layers.LayerNormalization(epsilon=1e-5, name="last_norm")(x)
    return keras.Model(tokens, dense(num_classes, "logits", use_bias=False)(x), name="gpt")


@keras.saving.register_keras_serializable(package="keras_svag")
class AddPositions(layers.Layer):
    """Adds a trained vector at each position."""

    def __init__(self, initializer="zeros", **kwargs):
        super().__init__(**kwargs)
        self.initializer = keras.initializers.get(initializer)

    def build(self, input_shape):
        """Creates the vectors."""
        self.vectors = self.add_weight(input_shape[1:], self.initializer, name="vectors")

    def call(self, x):
        """Adds them."""
        return x + self.vectors

    def get_config(self):
        """Returns the arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "initializer": initializer}
