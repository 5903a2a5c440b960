"""Scales Adam to a four times larger batch with `BatchSizeAdvisor`.

    python -m examples.adam_batch_size

Trains at batch size 16 with the advisor, then at 64 with the optimizer of the square-root rule, for
as many epochs, and prints both results. For Adam the bound on kappa is a heuristic.
"""

import keras

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor
from keras_svag.datasets import digits
from keras_svag.models import mlp

BATCH_SIZE = 16
KAPPA = 4


def fit(optimizer, batch_size, data, epochs, callbacks=()):
    """Trains a new network from fixed initial weights; returns the last value of each log."""
    keras.utils.set_random_seed(0)
    model = keras_svag.from_keras(mlp((8, 8), 10, seed=0))
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
    )
    history = model.fit(
        data.train_x,
        data.train_y,
        batch_size=batch_size,
        epochs=epochs,
        validation_data=(data.test_x, data.test_y),
        callbacks=list(callbacks),
        verbose=0,
    )
    return {name: values[-1] for name, values in history.history.items()}


def main(num_train=None, epochs=10):
    """Trains at both batch sizes; returns the advice and the last logs of each."""
    data = digits(num_train=num_train)
    optimizer = keras.optimizers.Adam(1e-3, beta_1=0.9, beta_2=0.99)
    advisor = BatchSizeAdvisor(kappa=KAPPA)
    small = fit(optimizer, BATCH_SIZE, data, epochs, [advisor])
    larger = keras_svag.scale_optimizer(optimizer, kappa=KAPPA)
    large = fit(larger, KAPPA * BATCH_SIZE, data, epochs)
    print(f"\n{'':>13}  B = {BATCH_SIZE:>6}  B = {KAPPA * BATCH_SIZE:>6}")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        print(f"{name:>13}  {small[name]:10.4f}  {large[name]:10.4f}")
    return advisor.advice, small, large


if __name__ == "__main__":
    main()
