"""Recommendations that follow from a verdict, of each study."""

import dataclasses

import pytest

from keras_svag.recipe import TrainingFacts
from keras_svag.studies import LinearScaling, NoisyGradientDescent, SDEValidity, WeakConvergence

FACTS = TrainingFacts(
    optimizer="SVAG",
    momentum=0.0,
    rule="linear",
    learning_rate=0.2,
    learning_rate_power=1.0,
    weight_decay=5e-3,
    weight_decay_power=0.0,
    batch_size=8,
    epochs=30.0,
    num_train=1437,
    sampling="with_replacement",
)


def steps(cls, facts=None, fields=None, **verdict):
    """Recommendations of a study of a config; `facts` and `fields` change recipe and study."""
    recipe = dataclasses.replace(FACTS, **(facts or {}))
    options = {"num_seeds": 4, "max_num_seeds": 16, "config": {}, **(fields or {})}
    study = cls(recipe, **options)
    return study.recommend({"study": study.name, "failed_runs": {}, **verdict})


def mentions(found, *words):
    """Asserts that each sentence has the words listed for it, and that there are no others."""
    assert len(found) == len(words), found
    for sentence, expected in zip(found, words):
        for word in expected:
            assert word in sentence, (word, sentence)


# SDE validity.

VALID_8 = ("batch size 8", "you can rely on the SDE", "trainers.linear_scaling")
INVALID_256 = ("batch size 256", "do not rely on the SDE")


def entries(remedy="seeds", **verdicts):
    return [
        {
            "batch_size": int(name[1:]),
            "verdict": verdict.removesuffix(", not judged"),
            "ratios": {} if "not judged" in verdict else {"weight_norm": {"mean": 1.0}},
            "remedy": remedy if verdict == "inconclusive" else None,
            "finished": {"1": 4, "2": 4, "4": 4, "8": 4},
        }
        for name, verdict in verdicts.items()
    ]


MORE_SEEDS = (
    "batch sizes 8, 16 and 32",
    "inconclusive",
    "--config.max_num_seeds=32",
    "same workdir",
)
SDE = {
    "valid": ({"b8": "valid"}, [VALID_8]),
    "invalid": ({"b256": "invalid"}, [INVALID_256]),
    "valid, then invalid": (
        {"b8": "valid", "b256": "invalid"},
        [VALID_8, INVALID_256, ("between batch sizes 8 and 256", "sde_validity.batch_sizes")],
    ),
    "inconclusive": (dict.fromkeys(["b8", "b16", "b32"], "inconclusive"), [MORE_SEEDS]),
    "not judged": ({"b8": "inconclusive, not judged"}, [("batch size 8", "nothing to compare")]),
}


def test_a_larger_ell_is_asked_for_where_it_is_likely_to_settle():
    found = steps(SDEValidity, verdicts=entries("ell", b8="inconclusive"))
    mentions(found, ("batch size 8", "--config.sde_validity.max_ell=16", "same workdir"))
    # Failed runs: neither seeds nor ells would help.
    assert steps(SDEValidity, verdicts=entries(None, b8="inconclusive")) == []


@pytest.mark.parametrize("case", SDE)
def test_sde_validity(case):
    verdicts, expected = SDE[case]
    mentions(steps(SDEValidity, verdicts=entries(**verdicts)), *expected)


def test_invalid_below_valid_has_no_end_in_between():
    found = steps(SDEValidity, verdicts=entries(b8="invalid", b256="valid"))
    assert not [step for step in found if "in between" in step]


# Linear scaling.


def scaling(value=4, first_failure=8, open_kappas=(), bound=9.0, bound_holds=True, **others):
    rows = [
        {"kappa": kappa, "batch_size": 8 * kappa, "learning_rate": 0.2 * kappa}
        for kappa in (1, 2, 4, 8)
    ]
    return {
        "base_batch_size": 8,
        "settings": rows,
        "observed_max_kappa": {
            "value": value,
            "first_failure": first_failure,
            "inconclusive": list(open_kappas),
        },
        "predicted_max_kappa": {"tight": {"ci_high": bound}},
        "comparison": {"bound_holds": bound_holds},
        "not_in_equilibrium": [],
        **others,
    }


USE_32 = ("batch size 8 and learning rate 0.2 by", "batch size 32 and learning rate 0.8")
USE_16 = ("batch size 8 and learning rate 0.2 by", "batch size 16 and learning rate 0.4")
SIZES = "--config.linear_scaling.batch_sizes"
ENDS = ("between batch sizes 32 and 64", SIZES, "same workdir")
NO_END = ("No batch size failed", SIZES)
SEEDS = ("--config.num_seeds=8", "same workdir")
LINEAR = {
    "holds up to kappa": (scaling(), [USE_32, ENDS]),
    "holds nowhere": (
        scaling(value=1, first_failure=2),
        [("Stay at batch size 8",), ("between batch sizes 8 and 16", SIZES)],
    ),
    "nothing fails": (scaling(first_failure=None), [USE_32, (*NO_END, "below 72")]),
    "nothing fails, no bound": (scaling(first_failure=None, bound=None), [USE_32, NO_END]),
    "open": (
        scaling(value=2, open_kappas=[4]),
        [USE_16, ("between batch sizes 16 and 64",), ("batch size 32", "inconclusive", *SEEDS)],
    ),
    "open, and nothing fails": (
        scaling(value=2, first_failure=None, open_kappas=[4, 8]),
        [USE_16, ("batch sizes 32 and 64", "inconclusive", *SEEDS)],
    ),
    "not in equilibrium": (
        scaling(not_in_equilibrium=[8, 16]),
        [USE_32, ENDS, ("batch sizes 8 and 16", "equilibrium was not", "--config.epochs=60")],
    ),
    "beyond the bound": (
        scaling(bound_holds=False),
        [USE_32, ENDS, ("beyond the bound", "assumptions of the theorem")],
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_scaling(case):
    verdict, expected = LINEAR[case]
    mentions(steps(LinearScaling, **verdict), *expected)


def test_no_base_run():
    failed = {"b8_ell1_seed0": "diverged", "b8_ell1_seed1": "diverged"}
    found = steps(LinearScaling, **scaling(value=None, failed_runs=failed))
    assert "Find a learning rate" in found[0] and "batch size 8" in found[0]


@pytest.mark.parametrize(
    ("optimizer", "rule"), [("SVAG", "linear"), ("SVAG", "heavy_ball"), ("SVAGAdam", "square_root")]
)
def test_other_optimizers_have_more_to_scale(optimizer, rule):
    facts = {"optimizer": optimizer, "momentum": 0.9 if optimizer == "SVAG" else 0.0, "rule": rule}
    found = steps(LinearScaling, facts, **scaling())
    mentions(found[:1], (*USE_32, f"keras_svag.scale_optimizer(optimizer, 4, rule={rule!r})"))


def test_only_plain_sgd_in_equilibrium_has_a_bound():
    momentum = steps(LinearScaling, {"momentum": 0.9}, **scaling(first_failure=None))
    transient = steps(LinearScaling, **scaling(first_failure=None, not_in_equilibrium=[8]))
    for found in (momentum, transient):
        assert "limit of the rule is still unknown" in found[1] and "bound" not in found[1]


def test_more_seeds_than_the_study_allows():
    found = steps(LinearScaling, fields={"max_num_seeds": 4}, **scaling(open_kappas=[8]))
    assert "--config.num_seeds=8 --config.max_num_seeds=8" in found[-1]


def test_without_weight_decay_longer_runs_do_not_help():
    found = steps(LinearScaling, {"weight_decay": 0.0}, **scaling(not_in_equilibrium=[8]))
    assert "without weight decay there is none" in found[-1] and "epochs" not in found[-1]
    excluded = {"decays_all_weights": False}
    found = steps(LinearScaling, excluded, **scaling(not_in_equilibrium=[8]))
    assert "since not all weights decay" in found[-1] and "epochs" not in found[-1]


# The other two.


def test_noisy_gradient_descent():
    verdicts = entries(b8="equivalent", b32="different", b128="inconclusive")
    found = steps(NoisyGradientDescent, fields={"num_seeds": 48}, verdicts=verdicts)
    seeds = "--config.noisy_gradient_descent.num_seeds=96"
    mentions(
        found,
        ("batch size 8", "can use Gaussian noise"),
        ("batch size 32", "do not replace"),
        ("batch size 128", "inconclusive", seeds),
    )


OWN = ("trainers.sde_validity",)


@pytest.mark.parametrize(
    ("score", "order", "expected"),
    [
        (-3.9, {"mean": 1.0, "ci_low": 0.9, "ci_high": 1.1}, [OWN]),
        (
            -4.1,
            {"mean": 1.0, "ci_low": 0.5, "ci_high": None},
            [("deviates from the exact recursion",), ("too small", "num_seeds=8"), OWN],
        ),
        (0.0, {"mean": 0.3, "ci_low": 0.2, "ci_high": 0.4}, [("weak_convergence.ells",), OWN]),
    ],
)
def test_weak_convergence(score, order, expected):
    verdict = {"simulated": [{"scores": [0.1, score]}], "network": [{"order": order}]}
    mentions(steps(WeakConvergence, **verdict), *expected)


def test_failed_runs():
    for count, words in ((1, "1 run failed"), (2, "2 runs failed")):
        failed = {f"b8_ell1_seed{seed}": "diverged" for seed in range(count)}
        found = steps(SDEValidity, verdicts=entries(b8="valid"), failed_runs=failed)
        assert words in found[-1] and "--config.learning_rate" in found[-1]


MADE_BY = {
    "config": ({}, "--config.max_num_seeds=32", "--config.learning_rate"),
    "Python": (None, "max_num_seeds=32", "learning_rate in the recipe"),
    "Python, loaded": ({"recipe": {"source": None}}, "max_num_seeds=32", "in the recipe"),
    "file": ({"recipe": {"source": "a.py:f"}}, "--config.max_num_seeds=32", "in the recipe"),
}


@pytest.mark.parametrize("case", MADE_BY)
def test_settings_are_named_as_the_user_changes_them(case):
    config, seeds, rate = MADE_BY[case]
    failed = {"b8_ell1_seed0": "diverged"}
    verdict = {"verdicts": entries(b8="inconclusive"), "failed_runs": failed}
    found = steps(SDEValidity, fields={"config": config}, **verdict)
    mentions(found, (f" {seeds} ",), (rate,))


def test_own_fields_are_arguments_in_python():
    verdict = {"verdicts": entries(b8="valid", b256="invalid")}
    found = steps(SDEValidity, fields={"config": None}, **verdict)
    assert "in between to batch_sizes, on the same workdir" in found[-1]
