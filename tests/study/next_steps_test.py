"""Tests of keras_svag/study/next_steps.py: the sentences that follow from a verdict."""

import pytest

from keras_svag.study.next_steps import next_steps

CONFIG = {
    "num_seeds": 4,
    "max_num_seeds": 16,
    "epochs": 30.0,
    "weight_decay": 5e-3,
    "optimizer": {"name": "SVAG"},
    "noisy_gradient_descent": {"num_seeds": 48},
}


def steps(study, config=None, **verdict):
    return next_steps({"study": study, "failed_runs": {}, **verdict}, CONFIG | (config or {}))


# SDE validity.

VALID_8 = (
    "At batch size 8, conclusions from the SDE may be used, such as scaling batch size and "
    "learning rate together. How far that goes, the study trainers.linear_scaling measures."
)
INVALID_256 = (
    "At batch size 256, do not argue from the SDE. A smaller batch size, with the learning rate "
    "scaled along, comes nearer to it."
)


def entries(**verdicts):
    return [
        {
            "batch_size": int(name[1:]),
            "verdict": verdict.removesuffix(", not judged"),
            "ratios": {} if "not judged" in verdict else {"weight_norm": {"mean": 1.0}},
        }
        for name, verdict in verdicts.items()
    ]


SDE = {
    "valid": ({"b8": "valid"}, [VALID_8]),
    "invalid": ({"b256": "invalid"}, [INVALID_256]),
    "valid, then invalid": (
        {"b8": "valid", "b256": "invalid"},
        [
            VALID_8,
            INVALID_256,
            "Somewhere between batch sizes 8 and 256 the SDE stops being a model. Add sizes in "
            "between to --config.sde_validity.batch_sizes, on the same workdir, to see where.",
        ],
    ),
    "inconclusive": (
        {"b8": "inconclusive", "b16": "inconclusive", "b32": "inconclusive"},
        [
            "At batch sizes 8, 16 and 32, the verdict is open. Give the same command with "
            "--config.max_num_seeds=32 on the same workdir: finished runs are kept, and seeds are "
            "added until it is clear."
        ],
    ),
    "not judged": (
        {"b8": "inconclusive, not judged"},
        ["At batch size 8, there was nothing to compare. Mend what the verdict names."],
    ),
}


@pytest.mark.parametrize("case", SDE)
def test_sde_validity(case):
    verdicts, expected = SDE[case]
    assert steps("sde_validity", verdicts=entries(**verdicts)) == expected


def test_invalid_below_valid_has_no_end_in_between():
    found = steps("sde_validity", verdicts=entries(b8="invalid", b256="valid"))
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


USE_32 = (
    "Batch size 32 with learning rate 0.8 may take the place of batch size 8 with learning rate "
    "0.2."
)
ENDS = (
    "The rule ends between batch sizes 32 and 64. Add sizes in between to "
    "--config.linear_scaling.batch_sizes, on the same workdir, to see where."
)
NO_END = (
    "No batch size failed, so the end of the rule was not seen. Add sizes larger than these to "
    "--config.linear_scaling.batch_sizes, on the same workdir."
)
LINEAR = {
    "holds up to kappa": (scaling(), [USE_32, ENDS]),
    "holds nowhere": (
        scaling(value=1, first_failure=2),
        [
            "Stay at batch size 8: no larger one of this sweep was shown to train as it does.",
            "The rule ends between batch sizes 8 and 16. Add sizes in between to "
            "--config.linear_scaling.batch_sizes, on the same workdir, to see where.",
        ],
    ),
    "nothing fails": (
        scaling(first_failure=None),
        [USE_32, f"{NO_END} By the bound, the end lies below 72."],
    ),
    "nothing fails, no bound": (scaling(first_failure=None, bound=None), [USE_32, NO_END]),
    "open": (
        scaling(value=2, open_kappas=[4]),
        [
            USE_32.replace("32", "16").replace("0.8", "0.4"),
            ENDS.replace("32", "16"),
            "At batch size 32, the outcome is open. Give the same command with "
            "--config.num_seeds=8 on the same workdir: finished runs are kept, and intervals "
            "become narrower.",
        ],
    ),
    "open, and nothing fails": (
        scaling(value=2, first_failure=None, open_kappas=[4, 8]),
        [
            USE_32.replace("32", "16").replace("0.8", "0.4"),
            "At batch sizes 32 and 64, the outcome is open. Give the same command with "
            "--config.num_seeds=8 on the same workdir: finished runs are kept, and intervals "
            "become narrower.",
        ],
    ),
    "not in equilibrium": (
        scaling(not_in_equilibrium=[8, 16]),
        [
            USE_32,
            ENDS,
            "At batch sizes 8 and 16, equilibrium was not reached: the means are of training under "
            "way. Train longer, as with --config.epochs=60, on another workdir.",
        ],
    ),
    "beyond the bound": (
        scaling(bound_holds=False),
        [
            USE_32,
            ENDS,
            "The rule held beyond the bound, which a theorem forbids where its premises hold. Look "
            "below which of them do not.",
        ],
    ),
    "no base run": (
        scaling(value=None, failed_runs={"b8_ell1_seed0": "diverged", "b8_ell1_seed1": "diverged"}),
        [
            "Find a learning rate at which runs at batch size 8 do not diverge.",
            "2 runs failed. Against divergence a lower --config.learning_rate helps, on another "
            "workdir.",
        ],
    ),
}


@pytest.mark.parametrize("case", LINEAR)
def test_linear_scaling(case):
    verdict, expected = LINEAR[case]
    assert steps("linear_scaling", **verdict) == expected


@pytest.mark.parametrize(("rule", "named"), [({}, ""), ({"rule": "linear"}, ", rule='linear'")])
def test_other_optimizers_have_more_to_scale(rule, named):
    config = {"optimizer": {"name": "SVAG", "momentum": 0.9, **rule}}
    assert steps("linear_scaling", config, **scaling())[0] == (
        f"{USE_32} The other hyperparameters go along: "
        f"keras_svag.scale_optimizer(optimizer, 4{named}) gives that optimizer."
    )


def test_more_seeds_than_the_config_allows():
    found = steps("linear_scaling", {"max_num_seeds": 4}, **scaling(open_kappas=[8]))
    assert "with --config.num_seeds=8 --config.max_num_seeds=8 on" in found[-1]


def test_without_weight_decay_longer_runs_do_not_help():
    verdict = scaling(not_in_equilibrium=[8])
    assert steps("linear_scaling", {"weight_decay": 0.0}, **verdict)[-1] == (
        "At batch size 8, equilibrium was not reached: without weight decay there is none, and the "
        "bound is a rough guide only."
    )


# The other two.


def test_noisy_gradient_descent():
    verdicts = entries(b8="equivalent", b32="different", b128="inconclusive")
    assert steps("noisy_gradient_descent", verdicts=verdicts) == [
        "At batch size 8, the covariance of the gradient noise is all that matters here: models of "
        "SGD may take Gaussian noise.",
        "At batch size 32, do not replace the noise of SGD by Gaussian noise. At a smaller batch "
        "size, with the learning rate in proportion, its shape matters less.",
        "At batch size 128, the verdict is open. Give the same command with "
        "--config.noisy_gradient_descent.num_seeds=96 on the same workdir: finished runs are kept, "
        "and intervals become narrower.",
    ]


OWN = (
    "To ask whether the SDE models a training run of your own, use the study trainers.sde_validity."
)


@pytest.mark.parametrize(
    ("score", "order", "expected"),
    [
        (-3.9, {"ci_low": 0.9, "ci_high": 1.1}, [OWN]),
        (
            -4.1,
            None,
            [
                "The train step is off the exact recursion by more than chance explains. Look for "
                "a fault before you trust any other study on this machine.",
                "For some quantity of the network the errors are too small to give an order. Give "
                "the same command with --config.num_seeds=8 --config.max_num_seeds=8 on the same "
                "workdir.",
                OWN,
            ],
        ),
        (
            0.0,
            {"ci_low": 0.5, "ci_high": 0.9},
            [
                "An order whose interval does not hold 1 is no fault by itself: the theorem is "
                "about small steps and smooth losses. Add larger ell to "
                "--config.weak_convergence.ells.",
                OWN,
            ],
        ),
    ],
)
def test_weak_convergence(score, order, expected):
    verdict = {"simulated": [{"scores": [0.1, score]}], "network": [{"order": order}]}
    assert steps("weak_convergence", **verdict) == expected


def test_one_failed_run():
    found = steps("sde_validity", verdicts=entries(b8="valid"), failed_runs={"b8_ell1_seed0": "x"})
    assert found[-1] == (
        "1 run failed. Against divergence a lower --config.learning_rate helps, on another workdir."
    )
