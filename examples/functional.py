"""Compares SGD with SVAG at growing amplification, on a functional model.

    python -m examples.functional

Plain Keras except for the class of the model and the optimizer. Every amplification trains for the
same number of effective steps. Where SGD is well modeled by its SDE, R, N and the loss hardly
depend on `ell`.
"""

import keras

import keras_svag
from keras_svag.datasets import SampledBatches, digits

BATCH_SIZE = 8
LEARNING_RATE = 0.2


def build_model(seed):
    """Builds a network with group norm, so that the loss does not depend on the batch size."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8))
    x = keras.layers.Flatten()(inputs)
    for _ in range(2):
        x = keras.layers.Dense(64, use_bias=False)(x)
        x = keras.layers.GroupNormalization(groups=8)(x)
        x = keras.layers.ReLU()(x)
    outputs = keras.layers.Dense(10)(x)
    return keras_svag.SVAGModel(inputs, outputs)


def train(data, ell, epochs):
    """Trains for as long as `epochs` of SGD; returns the logs of the last epoch and R."""
    model = build_model(seed=0)
    model.compile(
        optimizer=keras_svag.SVAG(LEARNING_RATE, ell=ell, weight_decay=5e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
    )
    history = model.fit(
        # Drawn with replacement, as in the theory; 2 * BATCH_SIZE examples per step.
        SampledBatches(data.train_x, data.train_y, BATCH_SIZE),
        epochs=keras_svag.svag_epochs(epochs, ell=ell),
        validation_data=(data.test_x, data.test_y),
        verbose=0,
    )
    last = {name: values[-1] for name, values in history.history.items()}
    squares = [keras.ops.sum(keras.ops.square(w)) for w in model.trainable_weights]
    return {**last, "weight_norm": float(sum(squares))}


def main(num_train=None, epochs=2, ells=(1, 2, 4)):
    """Trains with each `ell` and prints a table; returns the results of `train` by `ell`."""
    data = digits(num_train=num_train)
    columns = ("loss", "val_accuracy", "weight_norm", "gradient_noise", "gradient_signal")
    print(" ell  " + "  ".join(f"{name:>15}" for name in columns))
    results = {}
    for ell in ells:
        results[ell] = train(data, ell, epochs)
        print(f"{ell:4g}  " + "  ".join(f"{results[ell][name]:15.4g}" for name in columns))
    return results


if __name__ == "__main__":
    main()
