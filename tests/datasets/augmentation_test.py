"""Tests of keras_svag/datasets/augmentation.py: against loops, and as a random number."""

import itertools

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_svag.datasets import PadCropFlip, Sampler
from keras_svag.theory import standard_normals


def crop_by_loops(image, padding, top, left, flip):
    """Pixel (i, j) of the crop, read from the image or from the black around it."""
    height, width, _ = image.shape
    out = np.zeros_like(image)
    for i in range(height):
        for j in range(width):
            # A flip comes last: place j of the result is place width - 1 - j of the crop.
            row, column = i + top - padding, (width - 1 - j if flip else j) + left - padding
            if 0 <= row < height and 0 <= column < width:
                out[i, j] = image[row, column]
    return out


def all_draws(padding):
    offsets = range(2 * padding + 1)
    return np.array(list(itertools.product(offsets, offsets, (0, 1))), np.uint8)


@pytest.fixture(scope="module")
def enumerated():
    # Every crop and flip of images of 3x4, all different, none with a black pixel.
    params = all_draws(padding=2)
    x = np.random.default_rng(0).permutation(50 * 3 * 4 * 2).reshape(50, 3, 4, 2) + 1
    expected = np.stack([crop_by_loops(image, 2, *draw) for image, draw in zip(x, params.tolist())])
    return x, params, expected


DTYPES = ["uint8", "int32", "float32", "bfloat16"]


def cast(array, dtype):
    # bfloat16 has 8 bits: all types hold these numbers exactly.
    return keras.ops.cast(array % 251, dtype)


def test_numpy_against_loops(enumerated):
    x, params, expected = enumerated
    for dtype in ("uint8", "int64", "float32"):
        got = PadCropFlip(2).apply((x % 251).astype(dtype), params)
        assert type(got) is np.ndarray and got.dtype == dtype
        np.testing.assert_array_equal(got, (expected % 251).astype(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("jit", [None, False, True], ids=["eager", "graph", "xla"])
def test_tensors_against_loops(enumerated, jit, dtype):
    x, params, expected = enumerated
    apply = PadCropFlip(2).apply
    got = (apply if jit is None else tf.function(apply, jit_compile=jit))(cast(x, dtype), params)
    assert got.dtype.name == dtype and got.shape == x.shape
    np.testing.assert_array_equal(got, cast(expected, dtype))


def test_batch_of_unknown_size(enumerated):
    x, params, expected = enumerated
    apply = tf.function(
        PadCropFlip(2).apply,
        input_signature=[tf.TensorSpec((None, 3, 4, 2), tf.int64), tf.TensorSpec((None, 3))],
    )
    for count in (50, 7):
        got = apply(x[:count], params[:count].astype(np.float32))
        np.testing.assert_array_equal(got, expected[:count])


def test_xla_equals_numpy_on_drawn_images():
    augmentation = PadCropFlip()
    x = np.random.default_rng(0).integers(256, size=(64, 32, 32, 3), dtype=np.uint8)
    params = augmentation.draw(seed=1, start=0, stop=1, length=64)[0]
    expected = augmentation.apply(x, params)
    np.testing.assert_array_equal(
        tf.function(augmentation.apply, jit_compile=True)(x, params), expected
    )
    assert (expected != x).any(axis=(1, 2, 3)).mean() > 0.9  # 1 of 162 is the image itself


def test_image_itself():
    x = np.arange(2 * 5 * 5).reshape(2, 5, 5, 1)
    for padding in (0, 3):
        params = np.array([[padding, padding, 0], [padding, padding, 1]])
        got = PadCropFlip(padding).apply(x, params)
        np.testing.assert_array_equal(got, np.stack([x[0], x[1, :, ::-1]]))
    nothing = PadCropFlip(0, flip=False).draw(0, 0, 9, 5)
    assert not nothing.any()


# Draws.


def test_draws_are_uniform_and_independent_in_every_place():
    # Cells of 9 x 9 x 2, and pairs of flips: of neighbouring places, and of one step and the next.
    steps, length = 2000, 8
    params = PadCropFlip().draw(seed=3, start=0, stop=steps, length=length).astype(int)
    assert params.shape == (steps, length, 3)
    assert params.min() == 0 and params.max(axis=(0, 1)).tolist() == [8, 8, 1]
    cells = params @ [18, 2, 1]
    flips = params[..., 2]
    counts = [
        np.bincount(cells.ravel(), minlength=162),
        *(np.bincount(cells[:, place], minlength=162) for place in range(length)),
        np.bincount((2 * flips[:, ::2] + flips[:, 1::2]).ravel(), minlength=4),
        np.bincount((2 * flips[0:-1:2] + flips[1::2]).ravel(), minlength=4),
        np.bincount((9 * params[:, ::2, 0] + params[:, 1::2, 0]).ravel(), minlength=81),
        np.bincount((9 * params[0:-1:2, :, 1] + params[1::2, :, 1]).ravel(), minlength=81),
    ]
    # Thirteen tests at 0.1 % each; seed fixed.
    assert min(scipy.stats.chisquare(count).pvalue for count in counts) > 1e-3


def test_without_flip():
    params = PadCropFlip(padding=2, flip=False).draw(seed=0, start=0, stop=400, length=5)
    assert not params[..., 2].any()
    cells = params[..., 0].astype(int) * 5 + params[..., 1]
    assert scipy.stats.chisquare(np.bincount(cells.ravel(), minlength=25)).pvalue > 1e-3


def test_draws_do_not_depend_on_slices_or_length():
    augmentation = PadCropFlip()
    whole = augmentation.draw(seed=5, start=0, stop=40, length=12)
    for start, stop in ((30, 40), (7, 8), (0, 40), (9, 9)):
        got = augmentation.draw(5, start, stop, 12)
        assert got.shape == (stop - start, 12, 3) and got.dtype == np.uint8
        np.testing.assert_array_equal(got, whole[start:stop])
    np.testing.assert_array_equal(augmentation.draw(5, 3, 6, 5), whole[3:6, :5])
    assert not np.array_equal(whole[:20], whole[20:])
    assert not np.array_equal(whole, augmentation.draw(6, 0, 40, 12))


def test_stream_is_the_documented_one():
    # One word of 64 bits a place, of Philox with key [seed, step] and counter 2 * 2^192; its
    # digits, in Python's integers.
    seed, step = 2**64 - 3, 11
    words = np.random.Philox(
        key=np.array([seed, step], np.uint64), counter=np.array([0, 0, 0, 2], np.uint64)
    ).random_raw(6)
    expected = [[w % 9, w // 9 % 9, w // 81 % 2] for w in words.tolist()]
    np.testing.assert_array_equal(PadCropFlip().draw(seed, step, step + 1, 6)[0], expected)


def test_stream_is_not_that_of_the_sampler_nor_of_the_normal_numbers():
    # One step an epoch, so that epoch and step make the same key; 64-bit words of each stream.
    seed, length, steps = 7, 64, 50
    key = [np.array([seed, step], np.uint64) for step in range(steps)]
    others = np.concatenate([np.random.Philox(key=k).random_raw(1000) for k in key])
    normals = [np.random.Philox(key=k, counter=[0, 0, 0, 1]).random_raw(1000) for k in key]
    own = [np.random.Philox(key=k, counter=[0, 0, 0, 2]).random_raw(length) for k in key]
    assert not np.isin(own, others).any() and not np.isin(own, normals).any()
    # What is made of them is uncorrelated: rows of the sampler, normals and offsets. Of 3200
    # independent pairs the correlation has standard deviation 1 / sqrt(3200).
    offsets = PadCropFlip().draw(seed, 0, steps, length)[..., 0].ravel()
    rows = Sampler(length, length // 2, seed=seed).rows(0, steps).ravel()
    for other in (rows, standard_normals(length, seed, 0, steps).ravel()):
        assert abs(np.corrcoef(offsets, other)[0, 1]) < 4 / np.sqrt(offsets.size)


# Refusals.


@pytest.mark.parametrize(
    ("padding", "message"),
    [(-1, "integer >= 0. Received: padding=-1"), (128, "at most 127. Received: padding=128")],
)
def test_wrong_padding(padding, message):
    with pytest.raises(ValueError, match=message):
        PadCropFlip(padding)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, 1, 1), "`seed` must be an integer >= 0"),
        ((0, -1, 1, 1), "`start` must be an integer >= 0"),
        ((0, 5, 4, 1), "`stop` must be an integer >= 5"),
        ((0, 0, 1, 0), "`length` must be an integer >= 1"),
    ],
)
def test_wrong_draw(arguments, message):
    with pytest.raises(ValueError, match=message):
        PadCropFlip().draw(*arguments)


def test_largest_padding_fits_its_type():
    params = PadCropFlip(127).draw(0, 0, 1, 5000)
    assert params.max(axis=(0, 1)).tolist() == [254, 254, 1]


@pytest.mark.parametrize(
    "shapes", [((4, 8, 8), (4, 3)), ((4, 8, 8, 1), (4, 2)), ((4, 8, 8, 1), (3,))], ids=str
)
def test_wrong_shapes(shapes):
    with pytest.raises(ValueError, match="`params` .b, 3.. Received: x.shape="):
        PadCropFlip().apply(*(np.zeros(shape, np.uint8) for shape in shapes))
