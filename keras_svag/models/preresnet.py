"""The pre-activation residual network that the paper makes scale invariant."""

import keras

from keras_svag.models.convolution import Layers, channel_counts, classifier, image_input
from keras_svag.models.normalization import EPSILON
from keras_svag.models.residual import STAGE_CHANNELS, blocks, blocks_per_stage


def preresnet(
    input_shape,
    num_classes,
    depth=32,
    width=1,
    norm="batch",
    affine=False,
    train_last_layer=False,
    epsilon=EPSILON,
    seed=None,
):
    """A pre-activation residual network for small images, scale invariant by default.

    The network of most experiments of Li, Malladi, Arora 2021 (arXiv 2102.12470), after He et al.
    2016 (arXiv 1603.05027), with what the authors changed: every stage, the first too, begins with
    a block whose shortcut is a normalisation and a 1x1 convolution, so that what a stage puts out
    is proportional to the scale of the trained weights; the last normalisation takes that scale
    away. With a normalisation, `affine=False` and `train_last_layer=False` (the defaults) scaling
    all trained weights together therefore leaves the logits as they are (up to `epsilon`); scaling
    the weights of one layer does not.

    As in the authors' code:

    - 3x3 convolution without normalisation, three stages of `(depth - 2) / 6` blocks (each twice
      normalisation, ReLU, 3x3 convolution) with 16, 32, 64 channels, the latter two begun with
      stride 2, normalisation, average over the image, last layer. There is no ReLU between the
      last normalisation and the average.
    - No convolution has a bias. Kernels and the last layer are drawn normal with variance
      2 / fan_in, not truncated; the bias of a trained last layer starts at zero.
    - Group norm has 8 groups, layer norm one over channels, height and width.

    Otherwise than there: epsilon is 1e-5 unless given (theirs is 0; see
    `keras_svag.models.normalization`); moving variances follow the biased variance of the batch
    (PyTorch's the unbiased one); blocks are basic blocks only. With `norm="none"` their ReLU works
    in place on what the shortcut carries, so that the shortcut loses what is below 0 too; that is
    an accident of their code, and here the shortcut carries the block's input as ever.

    Args:
        input_shape: shape of one example, `(height, width, channels)` or `(height, width)`.
        num_classes: number of classes.
        depth: number of layers, 6n + 2. Defaults to `32`.
        width: number > 0 that multiplies the channel counts. Defaults to `1`.
        norm: `"batch"`, `"group"`, `"layer"` or `"none"`. Defaults to `"batch"`.
        affine: whether normalisations have a trained scale and offset. Defaults to `False`.
        train_last_layer: whether the last layer is trained; it then has a bias. Defaults to
            `False`.
        epsilon: epsilon of the normalisations. Defaults to `1e-5`.
        seed: int that decides the initial weights, or `None` for other weights on each call.

    Returns:
        A functional `keras.Model` from images to logits of shape `(batch, num_classes)`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> preresnet((8, 8), 10, depth=8, norm="group").output_shape
    (None, 10)
    """
    blocks_in_stage = blocks_per_stage(depth)
    counts = channel_counts(STAGE_CHANNELS, width, norm)
    layers = Layers(norm, affine, epsilon, seed)

    inputs, x = image_input(input_shape)
    x = layers.convolution(x, counts[0], "stem")
    for stage, block, channels, stride in blocks(counts, blocks_in_stage):
        shortcut = x
        if block == 0:
            shortcut = layers.normalize(x, f"stage_{stage}_shortcut_norm")
            shortcut = layers.convolution(
                shortcut, channels, f"stage_{stage}_shortcut", size=1, stride=stride
            )
        name = f"stage_{stage}_block_{block}"
        x = layers.normalize_relu(x, f"{name}_norm_0")
        x = layers.convolution(x, channels, f"{name}_conv_0", stride=stride)
        x = layers.normalize_relu(x, f"{name}_norm_1")
        x = layers.convolution(x, channels, f"{name}_conv_1")
        x = keras.layers.Add()([x, shortcut])
    x = layers.normalize(x, "last_norm")
    outputs = classifier(x, num_classes, train_last_layer, layers.he_normal())
    return keras.Model(inputs, outputs, name="preresnet")
