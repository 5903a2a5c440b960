"""Grows the batch by the measured noise scale, and compares with fixed batches, small and large.

    python -m examples.growing_batch            # digits
    python -m examples.growing_batch fashion_mnist

Three ways to train the same network by SGD without momentum: at a small batch, at a large one with
the learning rate of the linear rule, and from the small one to the large one by
`BatchSizeSchedule(policy="noise_scale")`. Prints what each needs until the test loss is first, at
the end of an epoch, below a target: steps, examples, and seconds of the processor for training,
compilation included. Fashion-MNIST: 10,000 images, prepared by
`python -m keras_svag.datasets.prepare fashion_mnist`.
"""

import dataclasses
import sys
import time

import keras
import numpy as np

import keras_svag
from keras_svag.callbacks import BatchSizeSchedule
from keras_svag.datasets import SampledBatches, digits, tfds
from keras_svag.models import mlp
from keras_svag.theory import mean_interval


@dataclasses.dataclass(frozen=True)
class Setting:
    """Batch sizes (of one half of a batch of `fit`), learning rate, and when a run has arrived."""

    smallest: int
    largest: int
    learning_rate: float
    epochs: int
    target: float


SETTINGS = {
    "digits": Setting(4, 128, 0.1, 30, 0.30),
    "fashion_mnist": Setting(8, 256, 0.02, 15, 0.63),
}


def load(name):
    """Returns training and test data as float arrays."""
    if name == "digits":
        data = digits()
        return (data.train_x, data.train_y), (data.test_x, data.test_y)
    data = tfds(name, mean=0.286, std=0.353, num_train=10_000, num_test=2_000)
    images = [np.asarray(data.normalization(x))[..., 0] for x in (data.train_x, data.test_x)]
    return (images[0], data.train_y), (images[1], data.test_y)


class Meter(keras.callbacks.Callback):
    """Steps, examples and seconds of training until the test loss is below a target."""

    def __init__(self, data, target):
        super().__init__()
        self.data, self.target = data, target
        self.examples = self.seconds = 0
        self.result = None

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self._start, self._first = time.process_time(), int(self.model.optimizer.iterations)

    def on_test_begin(self, logs=None):
        """Stops the clock."""
        self.seconds += time.process_time() - self._start

    def on_epoch_end(self, epoch, logs=None):
        """Ends the run if it has arrived."""
        steps = int(self.model.optimizer.iterations)
        size = logs.get("batch_size", self.data.batch_size)
        self.examples += 2 * size * (steps - self._first)
        if logs["val_loss"] <= self.target:
            self.result = {"steps": steps, "examples": self.examples, "seconds": self.seconds}
            self.model.stop_training = True


def run(way, setting, train, test, seed):
    """Trains in one way; returns what was needed, `None` if the target was not reached."""
    keras.utils.set_random_seed(seed)
    model = keras_svag.from_keras(mlp(train[0].shape[1:], 10, seed=seed))
    optimizer = keras.optimizers.SGD(setting.learning_rate, weight_decay=5e-3)
    size = setting.smallest
    if way == "large":
        size = setting.largest
        optimizer = keras_svag.scale_optimizer(optimizer, size / setting.smallest)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, jit_compile=True)
    data = SampledBatches(*train, batch_size=size, seed=seed)
    meter, callbacks, batches = Meter(data, setting.target), [], data
    if way == "growing":
        schedule = BatchSizeSchedule(
            size, 2, policy="noise_scale", max_batch_size=setting.largest, verbose=seed == 0
        )
        callbacks, batches = [schedule], schedule.batches(data)
    model.fit(
        batches,
        epochs=setting.epochs,
        validation_data=test,
        validation_batch_size=len(test[0]),
        callbacks=[*callbacks, meter],
        verbose=0,
    )
    return meter.result


def main(name="digits", num_seeds=5, setting=None):
    """Trains in all ways with all seeds, prints a table and returns the results by way."""
    setting = setting or SETTINGS[name]
    train, test = load(name)
    results = {}
    print(f"{name}: until the test loss is {setting.target}; means with 95 % intervals")
    for way in ("small", "growing", "large"):
        results[way] = [run(way, setting, train, test, seed) for seed in range(num_seeds)]
        arrived = [result for result in results[way] if result]
        print(f"{way:>8}: {len(arrived)} of {num_seeds} arrive", end="")
        # Means over those that arrive would favor a way that often fails.
        for quantity in ("steps", "examples", "seconds") if len(arrived) == num_seeds else ():
            print(f"; {quantity} {mean_interval([r[quantity] for r in arrived])}", end="")
        print(flush=True)
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
