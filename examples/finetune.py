"""Fine-tunes a network of `keras.applications`, with advice on the batch size.

    python -m examples.finetune

Trains the new head alone, then the whole network at a lower learning rate. Nothing is downloaded:
the weights are random. `main(weights="imagenet")` starts from pretrained ones. Only two lines are
not plain Keras: `from_keras` and the callback.
"""

import keras
import numpy as np

import keras_svag
from keras_svag.datasets import digits

SIZE = 32  # pixels; the smallest image that MobileNet takes
BATCH_SIZE = 32


def to_images(x):
    """Converts gray 8x8 images in [-0.3, 0.7] to RGB images of `SIZE` in [-1, 1]."""
    large = keras.ops.image.resize(2 * (x[..., None] + 0.3) - 1, (SIZE, SIZE))
    return np.repeat(keras.ops.convert_to_numpy(large), 3, axis=-1)


def build_model(weights):
    """Returns the network and its pretrained base."""
    base = keras.applications.MobileNet(
        (SIZE, SIZE, 3), alpha=0.25, include_top=False, weights=weights, pooling="avg"
    )
    inputs = keras.Input((SIZE, SIZE, 3))
    # In inference mode batch norm uses its moving averages: usual for small data, and the loss does
    # not depend on the batch size.
    features = base(inputs, training=False)
    outputs = keras.layers.Dense(10)(features)
    return keras_svag.from_keras(keras.Model(inputs, outputs)), base


def fit(model, data, learning_rate, epochs, callbacks=()):
    """Compiles and trains the model; returns the history."""
    model.compile(
        optimizer=keras.optimizers.Adam(learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    train, test = (to_images(data.train_x), data.train_y), (to_images(data.test_x), data.test_y)
    return model.fit(
        *train,
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=test,
        callbacks=list(callbacks),
        verbose=2,
    )


def main(num_train=None, num_test=None, head_epochs=1, epochs=2, weights=None):
    """Fine-tunes in two stages; returns the model and the advice on the second."""
    data = digits(num_train=num_train, num_test=num_test)
    model, base = build_model(weights)
    base.trainable = False
    fit(model, data, learning_rate=1e-2, epochs=head_epochs)
    base.trainable = True
    advisor = keras_svag.callbacks.BatchSizeAdvisor()
    fit(model, data, learning_rate=1e-3, epochs=epochs, callbacks=[advisor])
    return model, advisor.advice


if __name__ == "__main__":
    main()
