"""Tests of keras_svag/datasets/tfds/arrays.py: what is cached, when it is used, and what fails."""

import importlib.util
import os
import sys

import numpy as np
import pytest

from keras_svag.datasets import Dataset, cifar10, cifar100
from keras_svag.datasets.tfds.arrays import cache_folder, resolve_data_dir
from tests.backends import run_code


@pytest.fixture
def offline(monkeypatch):
    """No tensorflow_datasets from now on."""
    return lambda: monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)


def put_version(data_dir, version, text="{}"):
    folder = data_dir / "cifar10" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(text)


def test_second_reading_is_from_the_cache(made_up, offline, cache):
    with made_up():
        first = cifar10()
    assert len(os.listdir(cache)) == 1
    offline()
    second = cifar10()
    np.testing.assert_array_equal(second.train_x, first.train_x)
    np.testing.assert_array_equal(second.test_y, first.test_y)


def test_another_folder_or_data_set_is_not_what_was_cached(made_up, offline, tmp_path):
    with made_up():
        cifar10(tmp_path / "one")
    offline()
    cifar10(f"{tmp_path}/other/../one")  # the same folder
    for load, data_dir in ((cifar10, tmp_path / "two"), (cifar100, tmp_path / "one")):
        with pytest.raises(ValueError, match="is not cached in"):
            load(data_dir)


def test_version_and_contents_of_the_folder_decide(tmp_path):
    # The newest version by number, among those that are whole.
    data_dir = resolve_data_dir(tmp_path)
    digest = cache_folder("cifar10", data_dir).name.removeprefix("cifar10-")
    for version in ("3.0.2", "3.0.10", "3.0.9"):
        put_version(tmp_path, version)
    (tmp_path / "cifar10" / "4.0.0").mkdir()
    assert cache_folder("cifar10", data_dir).name == f"cifar10-3.0.10-{digest}"
    assert cache_folder("cifar100", data_dir).name == f"cifar100-{digest}"


def test_data_prepared_anew_are_read_anew(made_up, offline, cache, tmp_path):
    with made_up(12):
        cifar10(tmp_path)
    put_version(tmp_path, "1.0.0")
    offline()
    with pytest.raises(ValueError, match="is not cached in .*cifar10-1.0.0-"):
        cifar10(tmp_path)


def test_cache_of_other_contents_is_replaced(cache, tmp_path, monkeypatch):
    # Stands for what tensorflow_datasets reads, whose metadata change from one time to the next.
    from keras_svag.datasets.tfds import arrays

    def read(name, data_dir, download=False):
        x = np.full((10, 32, 32, 3), len(read_so_far), np.uint8)
        read_so_far.append(name)
        y = np.arange(10, dtype=np.int32)
        return Dataset(name, x, y, x, y, num_classes=10)

    read_so_far = []
    monkeypatch.setattr(arrays, "_read_tfds", read)
    for text, value in (("{}", 0), ("{}", 0), ('{"new": 1}', 1), ('{"new": 1}', 1)):
        put_version(tmp_path, "3.0.2", text)
        assert (cifar10(tmp_path).train_x == value).all()
    assert len(read_so_far) == 2 and len(os.listdir(cache)) == 1


def test_damaged_cache_is_made_again_or_told(made_up, offline, cache):
    with made_up():
        pixels = cifar10().train_x.copy()  # else mapped from the file that is to be damaged
    (file,) = cache.glob("*/train_x.npy")
    data = file.read_bytes()
    for _ in range(2):
        file.write_bytes(data[:-1])
        with pytest.warns(UserWarning, match="damaged: train_x.npy"), made_up():
            np.testing.assert_array_equal(cifar10().train_x, pixels)
        cifar10()  # no warning
    file.write_bytes(data[:-1])
    offline()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="prepare cif"):
        cifar10()
    with pytest.raises(ValueError, match="damaged: train_x.npy"):
        cifar10(file.parent)  # as if it had been copied here


def test_cache_that_cannot_be_written(made_up, tmp_path, monkeypatch):
    # Below a file no folder can be made, not even by root.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_SVAG_CACHE", str(tmp_path / "file" / "below"))
    with pytest.warns(UserWarning, match="cannot be cached in .*KERAS_SVAG_CACHE"), made_up():
        assert cifar10().num_train == 12


def test_data_that_are_not_there_name_the_command_that_prepares_them(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    data_dir = tmp_path / "empty"
    command = f"python -m keras_svag.datasets.prepare cifar100 --data_dir={data_dir}"
    with pytest.raises(ValueError, match="is not prepared in .*Received: data_dir=") as error:
        cifar100(data_dir=data_dir)
    assert command in str(error.value)
    assert not data_dir.exists()


def test_missing_package_names_the_extra(offline):
    offline()
    with pytest.raises(ValueError, match=r"pip install 'keras-svag\[tfds,tensorflow-cpu\]'"):
        cifar10()


# Reads a cached data set and feeds it to a program of JAX, where tensorflow cannot be imported.
SCRIPT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocked())

import jax, numpy as np
from keras_svag.datasets import cifar10

dataset = cifar10()
x = dataset.train_x
draws = dataset.augmentation.draw(0, 0, 1, len(x))[0]
crops = jax.jit(dataset.augmentation.apply)(x, draws)
normalized = jax.jit(dataset.normalization)(crops)
assert crops.dtype == "uint8" and normalized.dtype == "float32"
np.savez(sys.argv[1], x=x, crops=crops, normalized=normalized)
"""


def test_cache_is_read_without_tensorflow_and_augmented_by_jax(made_up, tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("needs jax")
    with made_up():
        dataset = cifar10()
    out = tmp_path / "out.npz"
    run_code(SCRIPT, out, backend="jax", JAX_PLATFORMS="cpu")
    augmentation = dataset.augmentation
    crops = augmentation.apply(dataset.train_x, augmentation.draw(0, 0, 1, dataset.num_train)[0])
    with np.load(out) as got:
        np.testing.assert_array_equal(got["x"], dataset.train_x)
        np.testing.assert_array_equal(got["crops"], crops)
        # As in the test of `Normalization`: units in the last place, over the smallest std.
        expected = dataset.normalization(crops)
        np.testing.assert_allclose(got["normalized"], expected, atol=4 * 2**-23 / 0.19)
