"""
Title: How large a batch can I use?
Author: The keras_svag authors
Date created: 2026/11/29
Last modified: 2026/11/29
Description: Measure gradient noise while training, scale the optimizer, and check the advice.
Accelerator: None
"""

"""
## Introduction

A larger batch makes better use of the hardware, as long as the network learns as much from each
example. Up to some batch size it does, if the learning rate grows with the batch; beyond that it
does not. Where the limit lies can be measured during an ordinary `fit`, from the noise of the
gradient:

- A step of SGD has a signal, the squared norm G of the full gradient, and a noise N, the trace of
  the covariance of the mini-batch gradient.
- Batch size and learning rate times kappa leave the noise per example as it was, but multiply what
  the signal contributes. For N, G and the squared weight norm to stay within a factor
  C = sqrt(2), kappa may be at most `C^2 + (C^2 - 1) N/G`
  ([Li, Malladi and Arora, 2021](https://arxiv.org/abs/2102.12470)).

`keras_svag.callbacks.BatchSizeAdvisor` measures both and prints that bound. We train a small
convolutional network on a part of Fashion-MNIST, ask for advice, follow it, then ignore it, and
compare the losses after the same number of examples.
"""

"""
## Setup
"""

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from keras import layers

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor

BATCH_SIZE = 16
EPOCHS = 6
SEEDS = (0, 1, 2)

"""
## Data

8,192 training images of Fashion-MNIST, reduced to 14x14 pixels. They are read from
tensorflow_datasets; `python -m keras_svag.datasets.prepare fashion_mnist` downloads them once.
"""

data = keras_svag.datasets.tfds(
    "fashion_mnist", mean=0.286, std=0.353, num_train=8192, num_test=2000, image_size=14
)
train_x, test_x = (np.asarray(data.normalization(x)) for x in (data.train_x, data.test_x))
print(train_x.shape, test_x.shape)


def batches(batch_size, seed):
    """Returns the training data, shuffled anew in every epoch."""
    examples = tf.data.Dataset.from_tensor_slices((train_x, data.train_y))
    return examples.shuffle(len(train_x), seed=seed).batch(batch_size, drop_remainder=True)


"""
## Model

Plain Keras, except for `from_keras`: it wraps the network such that each step computes the
gradients of both halves of a batch. Their difference is the noise. Training is what it was.
"""


def build_model(seed):
    """Returns a network with initial weights of a seed."""
    keras.utils.set_random_seed(seed)
    network = keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10),
        ]
    )
    return keras_svag.from_keras(network)


def train(optimizer, batch_size, seed, callbacks=()):
    """Trains a new network and returns the losses of its epochs."""
    model = build_model(seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss=loss, jit_compile=True)
    history = model.fit(
        batches(batch_size, seed),
        epochs=EPOCHS,
        shuffle=False,  # the data set is
        validation_data=(test_x, data.test_y),
        validation_batch_size=500,
        callbacks=list(callbacks),
        verbose=0,
    )
    return history.history


def make_optimizer():
    """Returns the optimizer for the small batch."""
    return keras.optimizers.SGD(learning_rate=0.05)


"""
## Ask

Train with a small batch, where the bound is strictest, and the advisor as a callback. After each
epoch it prints the largest factor on the batch size, with an interval of 95 %, and the simple
noise scale `B N/G`, in examples; after training, how it came to that.
"""

advisor = BatchSizeAdvisor()
histories = {BATCH_SIZE: [train(make_optimizer(), BATCH_SIZE, SEEDS[0], [advisor])]}

"""
Early in training the gradient of all examples is large and the bound low; as the loss falls, it
rises. A batch that is large from the start on must respect the lowest one, which is known only
roughly: its interval is printed above. We take the largest power of two below it, and for
comparison four times as much.
"""

bounds = [advice.max_kappa["tight"].mean for advice in advisor.history if advice.is_known]
advised = 2 ** int(np.log2(min(bounds)))
factors = {"advised": advised, "too large": 4 * advised}
print(f"lowest bound: {min(bounds):.1f}, highest: {max(bounds):.1f}")
for name, factor in factors.items():
    print(f"{name}: {factor} times, batches of {factor * BATCH_SIZE}")

"""
## Scale

`scale_optimizer` returns the optimizer for the larger batch. For SGD that is the linear rule; for
Adam the square-root rule, with betas and epsilon; schedules and clipping are scaled too.
"""

for factor in factors.values():
    larger = keras_svag.scale_optimizer(make_optimizer(), kappa=factor)
    print(f"learning rate for batches of {factor * BATCH_SIZE}: {float(larger.learning_rate):.2f}")

"""
## Check

Train at all three batch sizes from the same initial weights, with as many epochs, so that all see
the same number of examples; the larger ones in fewer steps.
"""

histories[BATCH_SIZE] += [train(make_optimizer(), BATCH_SIZE, seed) for seed in SEEDS[1:]]
for factor in factors.values():
    histories[factor * BATCH_SIZE] = [
        train(keras_svag.scale_optimizer(make_optimizer(), factor), factor * BATCH_SIZE, seed)
        for seed in SEEDS
    ]

print(f"after {EPOCHS} epochs: mean of {len(SEEDS)} seeds (lowest to highest)")
print("batch size  steps                   loss               val_loss")
for batch_size, runs in histories.items():
    row = f"{batch_size:10}  {EPOCHS * len(train_x) // batch_size:5}"
    for name in ("loss", "val_loss"):
        last = [run[name][-1] for run in runs]
        row += f"  {np.mean(last):.3f} ({min(last):.3f} to {max(last):.3f})"
    print(row)

"""
The same over all epochs; each line is the mean of the seeds, the band their range.
"""

figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
examples = len(train_x) * np.arange(1, EPOCHS + 1)
for axis, name in zip(axes, ("loss", "val_loss")):
    for batch_size, runs in histories.items():
        losses = np.array([run[name] for run in runs])
        axis.plot(examples, losses.mean(axis=0), ".-", label=f"batch size {batch_size}")
        axis.fill_between(examples, losses.min(axis=0), losses.max(axis=0), alpha=0.2)
    axis.set(xlabel="examples seen", ylabel=name)
    axis.grid(alpha=0.25)
axes[0].legend(frameon=False)
plt.show()

"""
## Result

In the run stored here, batches of 64 end at a loss of 0.385 and a validation loss of 0.478, after
0.369 and 0.482 for batches of 16: about the same from the same examples, in a quarter of the
steps. Batches of 256 are three times beyond the bound of the first epoch; only that of the last
epoch, 15.8 times, comes near them. They end at 0.928 and 0.905, with seeds far apart.

What to keep in mind:

- The bound is no forecast of the loss. Beyond it N, G or R change; below it, training may still
  change. Raise the batch in steps and ask again.
- It is a theorem for SGD without momentum, with weight decay and a network whose loss does not
  depend on the scale of its weights, in equilibrium. Elsewhere, as here, it is a heuristic, and the
  advisor says so.
- It is about noise and signal only. A learning rate of 0.80 may be too large for this network at
  any batch size; the bound does not tell the two apart.

Next: [what stands behind the numbers](https://keras-svag.github.io/keras-svag/guide/#advice), and
[the same with AdamW, a schedule, clipping and bfloat16](https://github.com/keras-svag/keras-svag/blob/main/examples/batch_size.py).
"""
