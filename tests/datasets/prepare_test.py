"""Tests of keras_svag/datasets/prepare.py: the cache is filled, and can be carried elsewhere."""

import shutil
import sys

import numpy as np
import pytest

from keras_svag.datasets import cifar10, prepare, svhn


def test_folder_that_is_printed_is_a_data_dir_on_its_own(
    made_up, cache, tmp_path, capsys, monkeypatch
):
    data_dir = tmp_path / "prepared"
    with made_up():
        prepare.main(["cifar10", f"--data_dir={data_dir}"])
        expected = cifar10(data_dir)
    printed = capsys.readouterr().out.splitlines()[-1]
    assert cache in (tmp_path / printed).parents
    # To another machine, which has no cache, no data and no tensorflow_datasets.
    carried = shutil.copytree(printed, tmp_path / "carried")
    shutil.rmtree(cache)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    np.testing.assert_array_equal(cifar10(str(carried)).train_x, expected.train_x)
    monkeypatch.setenv("TFDS_DATA_DIR", str(carried))
    np.testing.assert_array_equal(cifar10().test_y, expected.test_y)
    assert not cache.exists()
    prepare.main(["cifar10"])
    assert capsys.readouterr().out.splitlines() == [str(carried)]


def test_what_is_cached_is_not_read_again(made_up, capsys, monkeypatch):
    with made_up():
        prepare.main(["svhn"])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    prepare.main(["svhn"])
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_failures_end_the_program_with_a_message(made_up, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("KERAS_SVAG_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(SystemExit) as exit, made_up():
        prepare.main(["cifar10"])
    assert exit.value.code == 1
    assert "Data set 'cifar10' cannot be prepared: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit:
        prepare.main(["no_such_data"])
    assert exit.value.code == 1 and "tfds_name='no_such_data'" in capsys.readouterr().err


def test_any_data_set_by_its_own_name(made_up, capsys):
    with made_up():
        for name in ("fashion_mnist", "svhn_cropped", "svhn"):
            prepare.main([name])
    grey, cropped, short = capsys.readouterr().out.splitlines()
    assert "fashion_mnist" in grey and cropped == short
    np.testing.assert_array_equal(svhn(short).train_x, svhn().train_x)
