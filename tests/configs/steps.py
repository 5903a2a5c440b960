"""A step of a network of a config on random examples."""

import keras

import keras_svag


def take_step(network, optimizer, x, y):
    """Returns the logs of a step of a network, and its trained weights before and after."""
    network = keras_svag.from_keras(network)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(optimizer, loss=loss, run_eagerly=True)
    before = [w.numpy() for w in network.trainable_variables]
    logs = network.train_on_batch(x, y, return_dict=True)
    return logs, before, [w.numpy() for w in network.trainable_variables]
