"""Runs that are trained together in one program, and where that is rejected."""

import dataclasses

import keras
import pytest

from keras_svag.distribution import strategy_scope
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.spec import GAUSSIAN, RunSpec
from keras_svag.engine.vmap_seeds import group_by_seed, should_vectorize

needs_jax = pytest.mark.requires_jax


def test_groups_differ_in_the_seed_alone():
    base = RunSpec(8, 0.2, 2.0, 0, 50)
    seeds = [dataclasses.replace(base, seed=seed) for seed in range(3)]
    gaussian = [dataclasses.replace(run, method=GAUSSIAN) for run in seeds]
    changes = ({"ell": 1.0}, {"learning_rate": 0.1}, {"batch_size": 16}, {"total": 51})
    others = [dataclasses.replace(base, **change) for change in changes]
    assert group_by_seed([*gaussian, *seeds, *others]) == [seeds]
    pair = [dataclasses.replace(others[0], seed=seed) for seed in (0, 5)]
    assert group_by_seed([seeds[0], pair[0], seeds[1], pair[1]]) == [seeds[:2], pair]


@pytest.mark.parametrize(
    ("wanted", "workers", "device", "expected"),
    [
        (None, 0, "gpu:0", True),
        (None, 1, "gpu:0", True),
        (None, 2, "gpu:0", False),
        (None, 0, "cpu:0", False),
        (False, 0, "gpu:0", False),
        (True, 0, "cpu:0", True),
    ],
)
@needs_jax
def test_only_accelerators_do_so_unasked(monkeypatch, wanted, workers, device, expected):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: [device])
    assert should_vectorize(wanted, workers) is expected


@pytest.mark.requires_tensorflow
def test_tensorflow_does_not(monkeypatch):
    monkeypatch.setattr(keras.distribution, "list_devices", lambda: ["gpu:0"])
    assert not should_vectorize(None, 1)


@needs_jax
def test_refused_on_jax(recipe, recording, tmp_path):
    with pytest.raises(ValueError, match="several workers.*vectorize_seeds=True, num_workers=2"):
        RunPool(recipe, recording, tmp_path, num_workers=2, vectorize_seeds=True)
    with strategy_scope("mirrored"):
        with pytest.raises(ValueError, match="under a strategy.*--strategy=none"):
            RunPool(recipe, recording, tmp_path, vectorize_seeds=True)
        assert not should_vectorize(None, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [1, "yes", 0.0, []], ids=str)
def test_refused_of_another_kind(value):
    with pytest.raises(ValueError, match="`vectorize_seeds` must be True, False, or None.*Rec"):
        should_vectorize(value, 0)


@pytest.mark.requires_tensorflow
def test_refused_on_tensorflow(recipe, recording, tmp_path):
    with pytest.raises(ValueError, match="tensorflow.*KERAS_BACKEND=jax"):
        RunPool(recipe, recording, tmp_path, vectorize_seeds=True)
