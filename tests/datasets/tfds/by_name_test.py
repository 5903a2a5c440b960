"""Tests of keras_svag/datasets/tfds/by_name.py: data sets by their name in tensorflow_datasets."""

import pathlib
import sys

import ml_collections
import numpy as np
import pytest

from configs import digits
from keras_svag.config import validate_config
from keras_svag.config.recipe import build_recipe
from keras_svag.datasets import DATASETS, Normalization, PadCropFlip, prepare, tfds

MEAN, STD = (0.2860,), (0.3530,)
# Data of the developers; the test that needs them is skipped elsewhere.
SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "tfds"


def test_grey_images(made_up, raw):
    with made_up():
        dataset = tfds("fashion_mnist", MEAN, STD)
    for split in ("train", "test"):
        x, y = raw("fashion_mnist", split)
        np.testing.assert_array_equal(getattr(dataset, f"{split}_x"), x)
        np.testing.assert_array_equal(getattr(dataset, f"{split}_y"), y)
    assert (dataset.name, dataset.num_classes) == ("fashion_mnist", 10)
    assert dataset.input_shape == (28, 28, 1) and dataset.train_x.dtype == np.uint8
    assert dataset.normalization == Normalization(MEAN, STD) and dataset.augmentation is None
    assert DATASETS["tfds"] is tfds


def test_options(made_up):
    with made_up(100):
        part = tfds("mnist", 0.1, 0.3, augment=True, flip=False, num_train=20, num_test=10)
    assert np.bincount(part.train_y).tolist() == [2] * 10 and len(part.test_y) == 10
    assert part.augmentation == PadCropFlip(flip=False)
    assert tfds("mnist", 0.1, 0.3, augment=True).augmentation == PadCropFlip()


def test_reduced_images_are_means_of_blocks(made_up, raw):
    with made_up():
        dataset = tfds("cifar10", 0.5, 0.2, augment=True, image_size=16)
    x, _ = raw("cifar10", "test")
    means = x.astype(float).reshape(-1, 16, 2, 16, 2, 3).mean((2, 4))
    assert dataset.test_x.dtype == np.uint8 and dataset.input_shape == (16, 16, 3)
    assert np.abs(dataset.test_x - means).max() <= 0.5  # rounded
    assert dataset.augmentation == PadCropFlip(padding=2)


@pytest.mark.parametrize("size", [0, 3, 64])
def test_sizes_that_do_not_divide_that_of_the_images(made_up, size):
    with made_up(), pytest.raises(ValueError, match=f"`image_size` must.*image_size={size}"):
        tfds("cifar10", 0.5, 0.2, image_size=size)


def test_one_number_is_for_all_channels(made_up):
    with made_up():
        dataset = tfds("cifar10", 0.5, [0.1, 0.2, 0.3])
    assert dataset.normalization == Normalization((0.5,) * 3, (0.1, 0.2, 0.3))


def test_a_config_names_it_with_no_new_file(made_up):
    config = digits.get_config("quick")
    config.dataset = ml_collections.ConfigDict(
        {"name": "tfds", "tfds_name": "fashion_mnist", "mean": MEAN, "std": 0.353}
    )
    with made_up():
        recipe = build_recipe(validate_config(config, "sde_validity"))
    assert recipe.train_data[0].shape[1:] == (28, 28, 1)
    assert recipe.preprocess == Normalization(MEAN, STD)
    del config.dataset.mean
    with pytest.raises(ValueError, match="`dataset.mean` must be given"):
        validate_config(config, "sde_validity")


def test_a_configuration_of_a_data_set(made_up, cache):
    with made_up():
        dataset = tfds("mnist_corrupted/fog", MEAN, STD)
    assert dataset.name == "mnist_corrupted/fog" and dataset.input_shape == (28, 28, 1)
    (folder,) = cache.iterdir()  # not one below another
    assert (folder / "train_x.npy").is_file()


def test_classes_are_known_with_no_tensorflow_even_if_one_is_missing(made_up, monkeypatch, capsys):
    with made_up(3):  # three examples cannot be of ten classes
        prepare.main(["fashion_mnist"])
    folder = pathlib.Path(capsys.readouterr().out.splitlines()[-1])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert tfds("fashion_mnist", MEAN, STD).num_classes == 10
    assert tfds("fashion_mnist", MEAN, STD, data_dir=folder).num_classes == 10


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (
            (0.5,) * 3,
            1.0,
            r"`mean` must be one number, or one for each of the 1 channels.*mean=\(0.5,",
        ),
        (0.5, (1.0, 1.0), "`std` must be one number, or one for each of the 1"),
        (0.5, 0.0, "`std` must be numbers > 0. Received: std=0.0"),
        (None, 1.0, "`mean` must be finite numbers. Received: mean=None"),
        ("0.5", 1.0, "`mean` must be finite numbers. Received: mean='0.5'"),
    ],
)
def test_wrong_mean_and_std(made_up, mean, std, message):
    with made_up(), pytest.raises(ValueError, match=message):
        tfds("mnist", mean, std)


@pytest.mark.parametrize(
    ("name", "received"),
    [
        ("imdb_reviews", "Text"),  # no images
        ("celeb_a", "supervised_keys="),  # no one label
        ("oxford_flowers102", "None, None, 3"),  # images of many sizes
    ],
)
def test_data_of_other_kinds_are_refused(made_up, cache, name, received):
    message = f"Data set '{name}' must have uint8 images of one shape.*Received: .*{received}"
    with made_up(), pytest.raises(ValueError, match=message):
        tfds(name, 0.5, 0.5)
    assert not cache.exists()


@pytest.fixture
def own_builder(monkeypatch):
    """Makes a data set of tensorflow_datasets: 14 images, of seven classes."""
    library = pytest.importorskip("tensorflow_datasets")
    monkeypatch.setattr(library.core.registered, "_DATASET_REGISTRY", {})  # to be left as it was

    def define(splits, label=None):
        class SevenColors(library.core.GeneratorBasedBuilder):
            VERSION = library.core.Version("1.0.0")

            def _info(self):
                image = library.features.Image(shape=(2, 3, 3))
                kind = label or library.features.ClassLabel(num_classes=7)
                return self.dataset_info_from_configs(
                    features=library.features.FeaturesDict({"image": image, "label": kind}),
                    supervised_keys=("image", "label"),
                )

            def _split_generators(self, manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                for i in range(14):
                    yield i, {"image": np.full((2, 3, 3), i, np.uint8), "label": i % 7}

        return SevenColors

    return define


def test_data_set_that_is_defined_and_prepared_outside(own_builder, tmp_path):
    own_builder(["train", "test"])(data_dir=str(tmp_path)).download_and_prepare()
    dataset = tfds("seven_colors", 0.5, 0.5, data_dir=tmp_path)
    assert dataset.num_classes == 7 and dataset.train_x.shape == (14, 2, 3, 3)
    np.testing.assert_array_equal(dataset.train_x[:, 0, 0, 0] % 7, dataset.train_y)


def test_data_set_without_a_test_split_is_refused(own_builder, tmp_path):
    own_builder(["train"])(data_dir=str(tmp_path)).download_and_prepare()
    with pytest.raises(ValueError, match="the splits 'train' and 'test'. Received: 'train'"):
        tfds("seven_colors", 0.5, 0.5, data_dir=tmp_path)


def test_integers_of_unknown_range_are_no_labels(own_builder, tmp_path):
    own_builder(["train", "test"], label=np.int64)
    with pytest.raises(ValueError, match="a known number of classes"):
        tfds("seven_colors", 0.5, 0.5, data_dir=tmp_path)


@pytest.mark.parametrize("name", ["", "../mnist", "mnist:3.0.1", "mnist/..", None, "a/b/c"])
def test_what_is_no_name(name):
    with pytest.raises(ValueError, match="`tfds_name` must be the name of a data set"):
        tfds(name, 0.5, 0.5)


def test_unknown_and_unprepared_names():
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(ValueError, match="Received: tfds_name='no_such_data'") as error:
        tfds("no_such_data", 0.5, 0.5)
    assert len(str(error.value)) < 500  # not the names of all data sets
    with pytest.raises(ValueError, match="-m keras_svag.datasets.prepare fashion_mnist"):
        tfds("fashion_mnist", 0.5, 0.5)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs Fashion-MNIST prepared in ../shared/tfds")
def test_fashion_mnist_itself():
    pytest.importorskip("tensorflow_datasets")
    dataset = tfds("fashion_mnist", MEAN, STD, data_dir=SHARED)
    assert dataset.train_x.shape == (60000, 28, 28, 1) and dataset.test_x.shape[0] == 10000
    assert np.bincount(dataset.train_y).tolist() == [6000] * 10
    # The constants are those of the pixels, to the digits given.
    assert abs(dataset.train_x.mean() / 255 - MEAN[0]) < 1e-4
    assert abs(dataset.train_x.std() / 255 - STD[0]) < 1e-4
