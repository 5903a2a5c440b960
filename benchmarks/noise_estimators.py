"""Compares four ways to N and G of one network on TensorFlow: a table for docs/guide.md.

    python -m benchmarks.noise_estimators

The weights are frozen after an epoch, so that all estimate the same two numbers, which are known
from the gradients of all examples.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor
from keras_svag.datasets import SampledBatches, digits
from keras_svag.models import mlp

BATCH_SIZE, REPLICAS, MICRO_BATCHES = 16, 2, 4  # of all examples of a step
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def trained_weights(data):
    """Returns the weights after an epoch of SGD."""
    model = mlp((8, 8), 10, seed=0)
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    batches = SampledBatches(data.train_x, data.train_y, BATCH_SIZE // 2)
    model.fit(batches, shuffle=False, verbose=0)
    return model.get_weights()


def exact(data, weights):
    """Returns N of one example and G, from the gradient of each example."""
    model = mlp((8, 8), 10, seed=0)
    model.set_weights(weights)
    total, squares = 0.0, 0.0
    for start in range(0, len(data.train_x), 128):
        x, y = (array[start : start + 128] for array in (data.train_x, data.train_y))
        with tf.GradientTape() as tape:
            losses = keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True)
        parts = tape.jacobian(losses, model.trainable_weights)
        gradients = np.concatenate([p.numpy().reshape(len(x), -1) for p in parts], axis=1)
        total = total + gradients.sum(axis=0, dtype=np.float64)
        squares += np.square(gradients, dtype=np.float64).sum()
    mean = total / len(data.train_x)
    return squares / len(data.train_x) - mean @ mean, mean @ mean


def measured(data, weights, model, half, epochs, optimizer):
    """Returns N of a batch and G of each epoch of a fit that changes nothing."""
    model.set_weights(weights)
    model.compile(optimizer, LOSS)
    batches = SampledBatches(data.train_x, data.train_y, half, seed=1)
    logs = model.fit(batches, epochs=epochs, verbose=0, callbacks=[BatchSizeAdvisor(verbose=0)])
    return np.array([logs.history["gradient_noise"], logs.history["gradient_signal"]])


def row(name, values, size):
    """Returns a line of the table: N of an example, G and the noise scale, with errors."""
    noise, signal = values * [[size], [1.0]]
    means, count = (noise.mean(), signal.mean()), noise.size
    errors = (noise.std(ddof=1) / count**0.5, signal.std(ddof=1) / count**0.5)
    # Of the ratio of means, by the delta method.
    residuals = noise / means[1] - signal * means[0] / means[1] ** 2
    error = residuals.std(ddof=1) / count**0.5
    cells = [f"{m:.4g} ± {e:.2g}" for m, e in (*zip(means, errors), (means[0] / means[1], error))]
    return f"| {name} | " + " | ".join(cells) + " |"


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    epochs = parser.parse_args().epochs
    tf.get_logger().setLevel("ERROR")  # it warns of programs for a last, shorter part of the data
    cpu = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * REPLICAS
    tf.config.set_logical_device_configuration(cpu, devices)
    data = digits()
    weights = trained_weights(data)

    def network():
        return mlp((8, 8), 10, seed=0)

    print("| | N of one example | G | noise scale |\n|---|---|---|---|")
    noise, signal = exact(data, weights)
    print(f"| exact | {noise:.4g} | {signal:.4g} | {noise / signal:.4g} |")
    half, micro = BATCH_SIZE // 2, BATCH_SIZE // MICRO_BATCHES
    sgd = keras.optimizers.SGD(0.0)
    split = measured(data, weights, keras_svag.from_keras(network()), half, epochs, sgd)
    print(row("split step, halves of 8", split, half))
    sgd = keras.optimizers.SGD(0.0, gradient_accumulation_steps=MICRO_BATCHES)
    parts = measured(data, weights, network(), micro // 2, epochs, sgd)
    print(row("4 micro-batches of 4", parts, micro))
    with tf.distribute.MirroredStrategy().scope():
        sgd = keras.optimizers.SGD(0.0)
        replicas = measured(data, weights, network(), half, epochs, sgd)
    print(row("2 replicas with 8 each", replicas, BATCH_SIZE // REPLICAS))


if __name__ == "__main__":
    main()
