"""Studies from configs: of the config's own recipe, or of one's own with the study's fields."""

import keras
import numpy as np
import pytest

from configs import recipe as recipe_config
from keras_svag import Recipe
from keras_svag.config import build_study
from keras_svag.studies import LinearScaling, SDEValidity, Training
from tests.studies.helpers import study_config

X = np.random.default_rng(0).normal(size=(512, 4)).astype("float32")


def build_network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


@pytest.fixture(scope="module")
def recipe():
    sgd = keras.optimizers.SGD(0.1, weight_decay=1e-3)
    return Recipe(build_network, (X, X[:, :1]), sgd, "mse", batch_size=16, epochs=3)


def test_what_a_config_leaves_open_follows_from_the_recipe(recipe):
    study, num_workers = build_study(recipe_config.get_config(), "sde_validity", recipe)
    assert type(study) is SDEValidity and study.recipe is recipe and num_workers == 0
    assert study.batch_sizes == [16] and study.ells == [1, 2, 4, 8]
    assert (study.num_seeds, study.max_num_seeds) == (4, 16)
    scaling, _ = build_study(recipe_config.get_config(), "linear_scaling", recipe)
    # 1/2 to 64 times 16, as far as a batch is a quarter of 512.
    assert type(scaling) is LinearScaling and scaling.batch_sizes == [8, 16, 32, 64, 128]
    training, _ = build_study(recipe_config.get_config(), "train", recipe)
    assert type(training) is Training and (training.batch_size, training.ell) == (16, 1)


def test_fields_of_the_config_are_the_studys(recipe):
    config = recipe_config.get_config()
    config.num_seeds, config.closeness, config.num_workers = 2, 1.5, 3
    config.sde_validity.ells = (1.0, 2.0)
    config.equilibrium = (0.5, 1.0)
    study, num_workers = build_study(config, "sde_validity", recipe)
    assert (study.num_seeds, study.closeness, study.window) == (2, 1.5, (0.5, 1.0))
    assert study.ells == [1, 2] and num_workers == 3


def test_config_may_repeat_what_the_recipe_says(recipe):
    config = recipe_config.get_config().to_dict()
    same = {"epochs": 3.0, "base_batch_size": 16, "learning_rate": 0.1, "weight_decay": 1e-3}
    study, _ = build_study(config | same, "sde_validity", recipe)
    assert study.facts.epochs == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 5.0}, "epochs.*3.0.*epochs=5.0"),
        ({"learning_rate": 0.2}, "learning_rate.*0.1.*learning_rate=0.2"),
        ({"weight_decay": 0.0}, "weight_decay.*0.001.*weight_decay=0.0"),
        ({"base_batch_size": 8}, "base_batch_size.*16.*base_batch_size=8"),
        ({"sampling": "fixed_order"}, "sampling.*'with_replacement'.*'fixed_order'"),
        ({"dataset": {"name": "digits"}}, "dataset.*recipe"),
        ({"model": {"name": "mlp"}}, "model.*recipe"),
        ({"optimizer": {"name": "SVAG"}}, "optimizer.*recipe"),
        ({"schedule": {"name": "step"}}, "schedule.*recipe"),
        ({"initial_scale": 1.0}, "initial_scale.*recipe"),
        ({"batch_size": 8}, "num_seeds.*batch_size=8"),
        ({"sde_validity": {"ell": (1,)}}, "ells.*sde_validity.ell"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"num_seeds": 0}, "num_seeds=0"),
    ],
    ids=str,
)
def test_contradictions_are_refused_by_the_name_of_the_field(recipe, fields, message):
    config = recipe_config.get_config().to_dict()
    with pytest.raises(ValueError, match=message):
        build_study(config | fields, "sde_validity", recipe)


def test_a_whole_config_is_not_for_a_recipe(recipe):
    with pytest.raises(ValueError, match="recipe.*Received: "):
        build_study(study_config(), "sde_validity", recipe)


def test_config_of_a_config_made_study_is_what_is_written():
    study, num_workers = build_study(study_config(num_workers=2), "sde_validity")
    written = study.describe()
    assert num_workers == 2 and written["study"] == "sde_validity"
    assert "linear_scaling" not in written and written["optimizer"] == {"name": "SVAG"}
    # Once more from what was written.
    again, _ = build_study({k: v for k, v in written.items() if k != "study"}, "sde_validity")
    assert again.describe() == written
