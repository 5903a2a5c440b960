"""Tests of keras_svag/datasets/text.py."""

import numpy as np
import pytest

from keras_svag.datasets import text

POEM = "abcab\u00e9abcabcba"  # 14 characters, 4 different ones


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text(POEM, encoding="utf-8")
    return path


def decoded(tokens):
    return ["".join(sorted(set(POEM))[i] for i in row) for row in tokens]


def test_windows_and_the_characters_that_follow(path):
    data = text(path, length=3, test_fraction=0.25)
    assert data.num_classes == 4 and data.train_x.dtype == data.train_y.dtype == np.int32
    assert decoded(data.train_x) == ["abc", "ab\u00e9", "abc"]
    assert decoded(data.train_y) == ["bca", "b\u00e9a", "bca"]
    assert decoded(data.test_x) == ["abc"] and decoded(data.test_y) == ["bcb"]


def test_smaller_parts_are_evenly_spaced(path):
    data = text(path, length=1, test_fraction=0.5, num_train=2, num_test=3)
    # 13 windows of one character, the first 7 (13 - round(6.5)) for training.
    assert decoded(data.train_x) == [POEM[0], POEM[3]]
    assert decoded(data.test_x) == [POEM[7], POEM[9], POEM[11]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"length": 0}, "`length` must be an integer >= 1"),
        ({"length": 7}, "text of more than 14 characters"),
        ({"length": 3, "test_fraction": 1.0}, "`test_fraction` must be"),
        ({"length": 3, "num_train": 4}, "`num_train` must be at most 3"),
    ],
)
def test_wrong_arguments(path, options, message):
    with pytest.raises(ValueError, match=message):
        text(path, **options)


def test_a_config_without_a_path():
    with pytest.raises(ValueError, match="`path` must be a UTF-8 text file.*path='None'"):
        text(None)


def test_files_that_are_no_text(tmp_path):
    with pytest.raises(ValueError, match="must be a UTF-8 text file.*missing"):
        text(tmp_path / "missing.txt")
    (tmp_path / "image").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="must be a UTF-8 text file"):
        text(tmp_path / "image")
