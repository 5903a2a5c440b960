"""How large a batch can I use? An ordinary training job, asked and then scaled.

    TFDS_DATA_DIR=... python -m examples.batch_size --workdir=runs/batch_size
    KERAS_BACKEND=jax python -m examples.batch_size --devices=2

A residual network with batch norm on CIFAR-10 (pooled to 16x16), with AdamW, a cosine schedule,
clipping, bfloat16, augmentation in tf.data, checkpoints and TensorBoard. Only two lines are not
plain Keras: `from_keras` and the advisor. Then the batch size is raised by each factor, with the
optimizer of `scale_optimizer`, and losses are drawn against the examples seen: up to the factor
advised the curves agree, far beyond it they do not. `how_large_a_batch.py` is the tutorial; this is
what a whole job looks like.
"""

import argparse
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor
from keras_svag.datasets import cifar10
from keras_svag.distribution import strategy_scope
from keras_svag.models import preresnet

SIZE = 16  # pixels


def parse(argv=None):
    """Returns the arguments of the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--factors", type=int, nargs="*", default=[2, 4, 16])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--num_train", type=int, default=2**13, help="images, of 50,000")
    parser.add_argument("--num_test", type=int, default=2_000, help="images, of 10,000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--devices", type=int, default=1, help="virtual ones, of this CPU")
    parser.add_argument("--policy", default="mixed_bfloat16", help="of Keras, for dtypes")
    parser.add_argument("--workdir", help="for checkpoints, TensorBoard and the figure")
    return parser.parse_args(argv)


def make_devices(count):
    """Divides the CPU into virtual devices."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", count)
    else:
        [cpu] = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, devices)


def load(num_train, num_test):
    """Returns training and test images of 16x16 pixels in [-1, 1], and their labels."""
    data = cifar10(num_train=num_train, num_test=num_test, image_size=SIZE)
    train_x, test_x = (x.astype("float32") / 127.5 - 1 for x in (data.train_x, data.test_x))
    return (train_x, data.train_y), (test_x, data.test_y)


def augment(image, label):
    """Crops and flips an image at random."""
    image = tf.image.random_crop(tf.pad(image, [[2, 2], [2, 2], [0, 0]]), image.shape)
    return tf.image.random_flip_left_right(image), label


def make_optimizer(steps):
    """Returns the optimizer at the base batch size."""
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, decay_steps=steps)
    return keras.optimizers.AdamW(schedule, weight_decay=0.02, beta_1=0.95, clipnorm=2.0)


def train(optimizer, batch_size, train_data, test_data, arguments, callbacks=()):
    """Trains a new network from fixed initial weights; returns the history."""
    keras.utils.set_random_seed(arguments.seed)
    batches = tf.data.Dataset.from_tensor_slices(train_data).shuffle(len(train_data[1]))
    batches = batches.map(augment, tf.data.AUTOTUNE).batch(batch_size, drop_remainder=True)
    network = preresnet((SIZE, SIZE, 3), 10, depth=8, affine=True, train_last_layer=True)
    model = keras_svag.from_keras(network)
    model.compile(
        optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # TensorFlow's "auto" does not compile on a CPU, and over several it cannot.
        jit_compile=True if arguments.devices == 1 else "auto",
    )
    return model.fit(
        batches.prefetch(2),
        validation_data=tf.data.Dataset.from_tensor_slices(test_data).batch(500),
        epochs=arguments.epochs,
        shuffle=False,  # the data set is
        callbacks=list(callbacks),
        verbose=0,
    ).history


def main(arguments):
    """Trains at all batch sizes; returns the advice and the history for each factor."""
    keras.config.set_dtype_policy(arguments.policy)
    if arguments.devices > 1:
        make_devices(arguments.devices)
    train_data, test_data = load(arguments.num_train, arguments.num_test)
    steps = arguments.epochs * len(train_data[1]) // arguments.batch_size
    workdir = pathlib.Path(arguments.workdir or tempfile.mkdtemp())
    advisor = BatchSizeAdvisor(kappa=max(arguments.factors, default=None))
    callbacks = [
        advisor,
        keras.callbacks.ModelCheckpoint(workdir / "model.keras"),
        keras.callbacks.TensorBoard(workdir / "tensorboard"),
    ]
    histories = {}
    with strategy_scope("mirrored" if arguments.devices > 1 else "none") as replicas:
        print(f"{keras.backend.backend()}, devices: {replicas}, {arguments.policy}")
        what = train_data, test_data, arguments
        histories[1] = train(make_optimizer(steps), arguments.batch_size, *what, callbacks)
        for factor in arguments.factors:
            larger = keras_svag.scale_optimizer(make_optimizer(steps), factor)
            histories[factor] = train(larger, factor * arguments.batch_size, *what)
    show(histories, arguments.batch_size)
    draw(histories, advisor, arguments, workdir / "batch_size.png")
    return advisor.advice, histories


def show(histories, batch_size):
    """Prints the last logs of each batch size as a table."""
    print(
        f"\n{'factor':>6}  {'batch size':>10}  {'loss':>6}  {'val_loss':>8}  {'val_accuracy':>12}"
    )
    for factor, history in histories.items():
        loss, val_loss, accuracy = (history[k][-1] for k in ("loss", "val_loss", "val_accuracy"))
        print(
            f"{factor:6}  {factor * batch_size:10}  {loss:6.3f}  {val_loss:8.3f}  {accuracy:12.3f}"
        )


def draw(histories, advisor, arguments, path):
    """Draws the losses against the examples seen."""
    figure = Figure(figsize=(6.75, 3), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2, sharey=True), ("loss", "val_loss")):
        for factor, history in histories.items():
            examples = (1 + np.arange(len(history[name]))) * arguments.num_train
            label = f"B = {factor * arguments.batch_size} (x {factor})"
            axis.plot(examples, history[name], ".-", label=label)
        axis.set(xlabel="examples seen", ylabel=name)
        axis.grid(alpha=0.25)
    axis.legend(frameon=False)
    guides = [advice.max_kappa["tight"].mean for advice in advisor.history if advice.is_known]
    if guides:
        figure.suptitle(f"Advised over the run: x {min(guides):.2g} to {max(guides):.2g}", size=9)
    figure.savefig(path, dpi=150)
    print(f"\nFigure: {path}")


if __name__ == "__main__":
    main(parse())
