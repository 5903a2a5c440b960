r"""Your own models in a study: a convnet with batch norm, and a transformer with Adam.

    python -m trainers.sde_validity --recipe=examples/own_recipes.py:convnet \
        --workdir=runs/convnet
    python -m trainers.linear_scaling --recipe=examples/own_recipes.py:transformer \
        --workdir=runs/transformer

Each function returns a `keras_svag.Recipe`; copy one and insert your model and data. Flags set the
fields of configs/recipe.py. For a quick look:
`--config.num_seeds=2 --config.max_num_seeds=2 --config.sde_validity.ells=1,2,4,8`.
"""

import keras
import numpy as np
from keras import layers, ops

import keras_svag
from keras_svag.datasets import digits

VOCABULARY = 8
LENGTH = 6  # of the word to be reversed


def convnet():
    """Digits with SGD, weight decay, a cosine schedule, random shifts and brightness."""
    data = digits()
    batch_size, epochs = 32, 8
    num_steps = round(epochs * len(data.train_x) / batch_size)
    return keras_svag.Recipe(
        model=build_convnet,
        train_data=(data.train_x[..., None], data.train_y),
        test_data=(data.test_x[..., None], data.test_y),
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(0.1, num_steps, alpha=0.1), weight_decay=1e-2
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        batch_size=batch_size,
        epochs=epochs,
        augment=shift_and_brighten,
        num_uniforms=3,
    )


def build_convnet(seed):
    """Builds three convolutions, each with batch norm."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1))
    for filters, strides in ((8, 1), (16, 2), (16, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10)(x))


def shift_and_brighten(x, u):
    """Shifts images by up to a pixel and scales their brightness; `u` is uniform in [0, 1)."""
    u = u[:, :, None, None, None]
    for axis, uniform in ((1, u[:, 0]), (2, u[:, 1])):
        shifted = ops.where(uniform < 1 / 3, ops.roll(x, -1, axis), x)
        x = ops.where(uniform > 2 / 3, ops.roll(x, 1, axis), shifted)
    return x * (0.8 + 0.4 * u[:, 2])


def transformer():
    """Random words followed by their reverse, with Adam."""
    # The word is unpredictable, its reverse is not: accuracy is at most (5 / 8 + 6) / 11 = 60 %.
    train_x, train_y = reversed_words(1024, seed=0)
    return keras_svag.Recipe(
        model=build_transformer,
        train_data=(train_x, train_y),
        test_data=reversed_words(256, seed=1),
        optimizer=keras.optimizers.Adam(2e-3, beta_1=0.9, beta_2=0.99),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        batch_size=32,
        epochs=10,
    )


def reversed_words(count, seed):
    """Returns sequences "word, reversed word" of tokens, and the next token at each position."""
    words = np.random.default_rng(seed).integers(VOCABULARY, size=(count, LENGTH))
    tokens = np.concatenate([words, words[:, ::-1]], axis=1).astype("int32")
    return tokens[:, :-1], tokens[:, 1:]


class AddPositions(layers.Layer):
    """Adds a trained vector at each position."""

    def build(self, input_shape):
        """Creates the vectors."""
        self.vectors = self.add_weight(shape=input_shape[1:], initializer="uniform")

    def call(self, x):
        """Adds them."""
        return x + self.vectors


def build_transformer(seed, width=32, num_blocks=2):
    """Builds a causal pre-norm transformer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((2 * LENGTH - 1,), dtype="int32")
    x = AddPositions()(layers.Embedding(VOCABULARY, width)(inputs))
    for _ in range(num_blocks):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, width // 4)(y, y, use_causal_mask=True)
        y = layers.LayerNormalization()(x)
        x = x + layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(y))
    return keras.Model(inputs, layers.Dense(VOCABULARY)(layers.LayerNormalization()(x)))
