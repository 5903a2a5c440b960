"""Recipes whose optimizer excludes weights from weight decay."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.advice import advise
from keras_svag.engine.files import records
from keras_svag.engine.processes import transfer
from keras_svag.studies import LinearScaling, NoisyGradientDescent, SDEValidity
from keras_svag.studies.sde_validity.equilibrium import why_no_condition

pytestmark = pytest.mark.usefixtures("without_figures")

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
NAMES = ("bias", "gamma", "beta")


def build(seed, use_bias=True):
    keras.utils.set_random_seed(seed)
    layers = [
        keras.layers.Dense(3, "tanh", use_bias=use_bias),
        keras.layers.Dense(1, use_bias=use_bias),
    ]
    return keras.Sequential([keras.Input((4,)), *layers])


def without_bias(seed):
    return build(seed, use_bias=False)


def make(excluded=NAMES, model=build, decay=0.1):
    optimizer = keras.optimizers.SGD(0.1, weight_decay=decay)
    if excluded:
        optimizer.exclude_from_weight_decay(var_names=list(excluded))
    return Recipe(model, (X, X[:, :1]), optimizer, "mse", batch_size=8, epochs=4)


def decayed(optimizer):
    weights = build(0).trainable_variables
    before = [weight.numpy() for weight in weights]
    for weight in weights:
        weight.assign_add(keras.ops.ones(weight.shape))
    with optimizer.combined():
        optimizer.apply([keras.ops.zeros(weight.shape) for weight in weights], weights)
    return [w.name for w, b in zip(weights, before) if not np.array_equal(w.numpy(), b + 1)]


@pytest.mark.parametrize("batch_size", [8, 16])
def test_runs_and_workers_exclude_them(batch_size, tmp_path):
    recipe = make()
    assert decayed(recipe.optimizer_at(batch_size)) == ["kernel", "kernel"]
    sent = transfer.unpack(transfer.pack(recipe, tmp_path))
    assert decayed(sent.optimizer_at(batch_size)) == ["kernel", "kernel"]
    assert sent.describe() == recipe.describe()
    assert decayed(make(()).optimizer_at(batch_size)) == ["kernel", "bias"] * 2


def test_identity_of_a_study_has_the_names():
    described = make().describe()
    assert described["optimizer"]["exclude_from_weight_decay"] == sorted(NAMES)
    assert described["digest"] == make(reversed(NAMES)).describe()["digest"]
    assert described["digest"] != make(["bias"]).describe()["digest"]
    # That of recipes without them is what it was.
    assert "exclude_from_weight_decay" not in make(()).describe()["optimizer"]


def test_identity_does_not_depend_on_the_process():
    # Keras joins the names in the order of a set, hence of the hashes of a process.
    code = (
        "import keras; from keras_svag.recipe.identity import describe_optimizer as describe\n"
        "optimizer = keras.optimizers.SGD(0.1)\n"
        "optimizer.exclude_from_weight_decay(var_names=['bias', 'gamma', 'beta', 'norm'])\n"
        "print(describe(optimizer)['exclude_from_weight_decay'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[-2] == "['beta', 'bias', 'gamma', 'norm']"


def test_theory_assumes_decay_of_all_weights():
    assert make(()).facts.decays_all_weights and make(model=without_bias).facts.decays_all_weights
    assert make(decay=None).facts.decays_all_weights  # nothing decays
    facts = make().facts
    assert not facts.decays_all_weights and facts.weight_decay_at(16) == pytest.approx(0.1)
    assert facts.balancing_decay_at(16) == 0
    assert facts.assumptions()["weight decay of all weights"] is False
    assert list(make(()).facts.assumptions()) == list(facts.assumptions())[:-1]
    assert "some are excluded" in why_no_condition([], facts, 8, (0.4, 0.8))


def test_gaussian_steps_decay_all_weights():
    with pytest.raises(ValueError, match="must decay all weights.*exclude_from_weight_decay"):
        NoisyGradientDescent(make(), num_seeds=2).check()


def test_studies_leave_conditions_on_equilibrium_out(tmp_path):
    options = {"num_seeds": 2, "max_num_seeds": 2, "num_records": 8, "window": (0.0, 1.0)}
    scaling = LinearScaling(make(), batch_sizes=(8, 16), **options)
    scaling.run(tmp_path / "scaling", 1, show_progress=False)
    verdict = records.read_json(tmp_path / "scaling" / "verdict.json")
    assert verdict["premises"]["weight decay"] is True
    assert verdict["premises"]["weight decay of all weights"] is False
    assert verdict["not_in_equilibrium"] == [8, 16]
    assert all(setting["equilibrium"]["identity"] is None for setting in verdict["settings"])
    report = (tmp_path / "scaling" / "report.html").read_text("utf-8")
    assert "some weights are excluded from weight decay" in report
    validity = SDEValidity(make(), ells=(1, 2), max_ell=2, **options)
    validity.run(tmp_path / "validity", 1, show_progress=False)
    [entry] = records.read_json(tmp_path / "validity" / "verdict.json")["verdicts"]
    assert entry["necessary_condition"]["holds"] is None


def test_advice_names_it_and_has_no_code():
    optimizer = make().optimizer
    optimizer.build(build(0).trainable_variables)
    row = {"learning_rate": 0.1, "weight_norm": 1.0, "batch_size": 16}
    moments = {"gradient_noise": 32.0, "gradient_signal": 0.5}
    rows = [{"step": 25 * (i + 1), **row, **moments} for i in range(40)]
    advice = advise(rows, optimizer, scale_invariant=True, kappa=2)
    assert "some weights are excluded from weight decay" in advice.describe()
    assert not advice.is_theorem and advice.code is None
    assert "keras_svag.scale_optimizer(optimizer, kappa=2" in advice.describe()
