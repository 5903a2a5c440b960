"""Arguments of theory at the limits of their range: what is inside is taken, the rest refused."""

import math

import numpy as np
import pytest

from keras_svag import theory
from keras_svag.theory.verdicts.criteria import Criterion

ROWS = [
    {"step": 10 * i, "weight_norm": 1.0, "gradient_noise": 1.0, "gradient_signal": 1.0}
    for i in range(9)
]
PAIR = [1.0, 1.1]
NOTHING = (math.nan, "1", None, True)
POSITIVE = ([1e-9], [0.0, -1.0, math.inf, *NOTHING])
NOT_NEGATIVE = ([0.0, 1e-9], [-1e-9, math.inf, *NOTHING])
ABOVE_ONE = ([1 + 1e-9], [1.0, 0.5, math.inf, *NOTHING])
CONFIDENCE = ([1e-9, 1 - 1e-9], [0.0, 1.0, -0.5, 1.5, *NOTHING])
ELL = ([0.5], [0.5 - 1e-9, math.nan, -math.inf, "1"])


def integers_from(least):
    return [least, np.int64(least)], [least - 1, least + 0.5, float(least), *NOTHING]


LIMITS = {
    theory.correct_noise: (
        {"noise": 1.0, "batch_size": 1, "num_examples": 4, "mode": "with_replacement"},
        {"batch_size": POSITIVE, "num_examples": integers_from(1)},
    ),
    theory.correct_signal: (
        {"signal": 1, "noise": 1, "batch_size": 1, "num_examples": 4, "mode": "shuffled_epochs"},
        {"batch_size": ([1e-9, 4], [0.0, 4 + 1e-9, *NOTHING]), "num_examples": integers_from(1)},
    ),
    theory.difference_interval: ({"a": PAIR, "b": PAIR}, {"confidence": CONFIDENCE}),
    theory.equilibrium_test: (
        {"rows": ROWS, "weight_decay": 0.5, "learning_rate": 0.5},
        {"tolerance": POSITIVE, "weight_decay": ([1e-9], POSITIVE[1]), "confidence": CONFIDENCE},
    ),
    theory.equilibrium_weight_norm: (
        {"noise": 1.0, "signal": 1.0, "learning_rate": 0.5, "weight_decay": 0.5},
        {
            "learning_rate": ([1e-9, 4 - 1e-9], [*POSITIVE[1], 4.0, 5.0]),
            "weight_decay": ([1e-9, 4 - 1e-9], [*POSITIVE[1], 4.0, 5.0]),
            "ell": ([0.5, math.inf], ELL[1]),
        },
    ),
    theory.fit_errors: (
        {"values": {1: PAIR, 2: PAIR}, "reference": PAIR},
        {"confidence": CONFIDENCE},
    ),
    theory.gaussian_loss_weights: (
        {"normals": [1.0], "batch_size": 1},
        {"batch_size": integers_from(1), "noise_steps": POSITIVE},
    ),
    theory.heavy_ball_weight_norm: (
        {"velocity_norm": 1.0, "learning_rate": 0.5, "weight_decay": 0.5, "momentum": 0.5},
        {
            "learning_rate": ([1e-9, 2 - 1e-9], [*POSITIVE[1], 2.0, 3.0]),
            "weight_decay": ([1e-9, 2 - 1e-9], [*POSITIVE[1], 2.0, 3.0]),
            "momentum": ([0.0, 1 - 1e-9], [-1e-9, 1.0, 2.0, *NOTHING]),
        },
    ),
    theory.judge_noisy_gradient_descent: (
        {"first": {"loss": PAIR}, "second": {"loss": PAIR}, "margin": 0.1},
        {"margin": ([1e-9], POSITIVE[1]), "look": integers_from(1), "confidence": CONFIDENCE},
    ),
    theory.judge_scaling: (
        {"base": {"loss": PAIR}, "other": {"loss": PAIR}},
        {"closeness": ABOVE_ONE, "look": integers_from(1), "confidence": CONFIDENCE},
    ),
    theory.judge_sde: (
        {"values": {"loss": dict.fromkeys((1, 2, 4, 8), PAIR)}},
        {"closeness": ABOVE_ONE, "look": integers_from(1), "confidence": CONFIDENCE},
    ),
    theory.LinearProblem: (
        {"a": PAIR, "b": PAIR, "learning_rate": 0.5},
        {
            "learning_rate": POSITIVE,
            "weight_decay": NOT_NEGATIVE,
            "momentum": ([0.0, 1 - 1e-9], [-1e-9, 1.0, 2.0, *NOTHING]),
            "batch_size": integers_from(1),
        },
    ),
    theory.lsr_max_kappa: (
        {"noise": PAIR, "signal": PAIR},
        {"closeness": ABOVE_ONE, "confidence": CONFIDENCE},
    ),
    theory.mean_interval: ({"values": PAIR}, {"confidence": CONFIDENCE}),
    theory.Quadratic: (
        {"hessian": [[1.0]], "covariance": [[1.0]], "learning_rate": 0.5},
        {"learning_rate": POSITIVE},
    ),
    theory.ratio_of_means: (
        {"numerator": PAIR, "denominator": PAIR},
        {"confidence": CONFIDENCE},
    ),
    theory.relative_drift: (
        {"values": [1.0, 2.0, 4.0, 3.0]},
        {"confidence": CONFIDENCE},
    ),
    theory.RunningMeans: (
        {},
        {
            "rows_per_block": integers_from(1),
            "max_blocks": ([8, 10], [6, 7, 9, 8.0, *NOTHING]),
        },
    ),
    theory.sde_condition: (
        {"noise": PAIR, "signal": PAIR},
        {"closeness": ABOVE_ONE, "confidence": CONFIDENCE},
    ),
    theory.spent_at: ({"look": 1}, {"look": integers_from(1), "confidence": CONFIDENCE}),
    theory.standard_normals: (
        {"count": 2, "seed": 0, "start": 0, "stop": 0},
        {"count": integers_from(1), "seed": integers_from(0), "stop": integers_from(0)},
    ),
    theory.svag_epochs: ({"sgd_epochs": 1, "ell": 1}, {"sgd_epochs": integers_from(0), "ell": ELL}),
    theory.svag_steps: ({"sgd_steps": 1, "ell": 1}, {"sgd_steps": integers_from(0), "ell": ELL}),
    theory.weight_norm_imbalance: (
        dict.fromkeys(("noise", "signal", "steps"), 1.0)
        | {"weight_norm": [1.0, 1.0], "learning_rate": 0.5, "weight_decay": 0.5},
        {
            "learning_rate": ([1e-9, 2 - 1e-9], [0.0, -1.0, 2.0, 3.0]),
            "weight_decay": ([0.0, 2 - 1e-9], [-1e-9, 2.0, 3.0, *NOTHING]),
            "ell": ([0.5], [*ELL[1], math.inf]),
        },
    ),
    theory.yaida_ratio: (
        {"radial_gradient": PAIR, "noise": PAIR, "signal": PAIR, "learning_rate": 0.5},
        {"learning_rate": POSITIVE, "ell": ([0.5], [*ELL[1], math.inf]), "confidence": CONFIDENCE},
    ),
    Criterion.within_difference: ({"limit": 1.0}, {"limit": POSITIVE}),
    Criterion.within_factor: ({"factor": 2.0}, {"factor": ABOVE_ONE}),
}
CASES = [(call, name) for call, (_, limits) in LIMITS.items() for name in limits]
# What messages call the arguments that users do not see.
WORDS = {"limit": "difference", "factor": "ratio"}


@pytest.mark.parametrize(("call", "name"), CASES, ids=lambda part: getattr(part, "__name__", part))
def test_limits_of_an_argument(call, name):
    arguments, limits = LIMITS[call]
    inside, outside = limits[name]
    for value in inside:
        call(**arguments | {name: value})
    for value in outside:
        with pytest.raises(ValueError, match=rf"{WORDS.get(name, name)}.*Received"):
            call(**arguments | {name: value})
            pytest.fail(f"{name}={value!r} was taken")
