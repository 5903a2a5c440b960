"""Folders of a recipe's study: same data, model, optimizer and precision, or refused."""

import dataclasses
import threading

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.files import records
from keras_svag.studies import SDEValidity
from keras_svag.studies.base.workdir import prepare_workdir
from tests.studies.helpers import assert_refused, files_of

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
Y = X[:, :1]


def build_dense(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def build_wide(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(2), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input((4,)), *layers])


def build_large_weights(seed):
    """The network of `build_dense` with other initial weights of the same shapes."""
    network = build_dense(seed)
    network.set_weights([3 * weight for weight in network.get_weights()])
    return network


def half(x, u):
    return x * (1 - 0.5 * u[:, :1])


def own_study(**changes):
    """A study of a recipe; `changes` are arguments of either."""
    fields = {"model": build_dense, "train_data": (X, Y), "optimizer": keras.optimizers.SGD(0.1)}
    fields |= {"loss": "mse", "batch_size": 8, "epochs": 2}
    names = {field.name for field in dataclasses.fields(SDEValidity)}
    options = {"ells": (1, 2, 4), "num_seeds": 2, "max_num_seeds": 2, "num_records": 4}
    options |= {name: value for name, value in changes.items() if name in names}
    fields |= {name: value for name, value in changes.items() if name not in names}
    return SDEValidity(Recipe(**fields), **options)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder that `own_study()` has claimed, with a run in it."""
    workdir = tmp_path_factory.mktemp("begun") / "study"
    prepare_workdir(workdir, own_study())
    (workdir / "runs" / "b8_ell1_seed0").mkdir(parents=True)
    records.write_json(workdir / "runs" / "b8_ell1_seed0" / "result.json", {"status": "done"})
    return workdir


def test_same_recipe_is_welcome(begun):
    before = files_of(begun)
    prepare_workdir(begun, own_study())
    same_in_float32 = (X.copy(), Y.astype("float64"))
    prepare_workdir(begun, own_study(train_data=same_in_float32))
    assert files_of(begun) == before


OTHERS = {
    "data": ({"train_data": (X + 1, Y)}, ["same data", "sha256"]),
    "targets": ({"train_data": (X, Y + 1)}, ["same data"]),
    "test data": ({"test_data": (X, Y)}, ["same data"]),
    "another network": ({"model": build_wide}, ["same model", "5 parameters", "13"]),
    "other initial weights": ({"model": build_large_weights}, ["same model", "5 parameters"]),
    "learning rate": ({"optimizer": keras.optimizers.SGD(0.2)}, ["learning_rate: 0.1 -> 0.2"]),
    "momentum": ({"optimizer": keras.optimizers.SGD(0.1, momentum=0.9)}, ["momentum: 0.0 -> 0.9"]),
    "optimizer": ({"optimizer": keras.optimizers.Adam(0.1)}, ["optimizer.class: 'SGD' -> 'Adam'"]),
    "loss": ({"loss": "mae"}, ["recipe.loss: 'mse' -> 'mae'"]),
    "metrics": ({"metrics": ["mae"]}, ["recipe.metrics"]),
    "batch size": ({"batch_size": 16}, ["recipe.batch_size: 8 -> 16"]),
    "epochs": ({"epochs": 3}, ["recipe.epochs: 2.0 -> 3.0"]),
    "augmentation": ({"augment": half}, ["recipe.augment: None -> 'half"]),
    "sampling": ({"sampling": "without_replacement"}, ["recipe.sampling"]),
    "seed": ({"seed": 1}, ["seed: 0 -> 1"]),
    "records": ({"num_records": 5}, ["num_records: 4 -> 5"]),
}


@pytest.mark.parametrize("case", OTHERS)
def test_another_recipe_is_refused(begun, case):
    changes, words = OTHERS[case]
    assert_refused(begun, own_study(**changes), *words)


def test_another_precision_is_refused(begun):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert_refused(begun, own_study(), "'float32'", "'mixed_bfloat16'")
    finally:
        keras.config.set_dtype_policy("float32")


def test_more_of_the_same_is_welcome(begun, tmp_path):
    workdir = tmp_path / "copy"
    prepare_workdir(workdir, own_study())
    changes = {"num_seeds": 3, "max_num_seeds": 9, "closeness": 1.2, "window": (0.5, 1.0)}
    prepare_workdir(workdir, own_study(**changes, ells=(1, 2, 4, 8), batch_sizes=(8, 16)))


def test_recipe_that_cannot_be_pickled_is_refused_before_anything_is_written(tmp_path):
    lock = threading.Lock()

    def build_locked(seed):
        with lock:
            return build_dense(seed)

    with pytest.raises(ValueError, match="`recipe`.*num_workers=1"):
        own_study(model=build_locked).run(tmp_path / "study", num_workers=2)
    assert not (tmp_path / "study").exists()
