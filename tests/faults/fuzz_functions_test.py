"""Fuzz of public functions: whatever goes in, nothing but our own `ValueError` comes out."""

import pathlib
import tempfile
import traceback
import warnings

import keras
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_svag
from keras_svag import advice, schedules, theory
from keras_svag._checks import local_folder
from keras_svag.datasets import Sampler
from keras_svag.engine import shard
from keras_svag.engine.files import checkpoints, records
from keras_svag.optimizers import scaling
from keras_svag.recipe.source import load_recipe
from keras_svag.theory import SAMPLING_MODES
from keras_svag.theory.equilibrium.relaxation import constant_rate_segment

PACKAGE = pathlib.Path(keras_svag.__file__).resolve().parent
# The short form belongs to the fast tests, the long one (of each function) to `-m slow`.
PROFILES = [50, pytest.param(1000, marks=pytest.mark.slow)]

GARBAGE = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 2**31, 2**64]),
    st.floats(),
    st.lists(st.floats(), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
ANY_FLOAT = st.one_of(st.floats(), st.floats(0, 10), st.floats(1e-3, 1e3))


def mostly(valid):
    """Three times out of four what is expected there."""
    return st.one_of(valid, valid, valid, GARBAGE)


NUMBER = mostly(st.floats(0.5, 100.0))
SMALL = mostly(st.floats(1e-4, 1.0))
FRACTION = mostly(st.floats(0.0, 1.0))
COUNT = mostly(st.integers(0, 200))
MODE = mostly(st.sampled_from(SAMPLING_MODES))
PATH = r"(~[a-z]?|/|[a-z]{1,3}:/{0,2})?[a-z./]*"
# What stands for measurements: lists of numbers, as bad as a run can make them.
SERIES = st.lists(ANY_FLOAT, max_size=45)
SHORT_SERIES = st.lists(ANY_FLOAT, max_size=5)
CONFIDENCE = st.floats(0.5, 0.999)
QUANTITIES = st.fixed_dictionaries({name: SHORT_SERIES for name in theory.QUANTITIES})
ELLS = (1.0, 2.0, 4.0, 8.0)
FIVE = st.lists(ANY_FLOAT, min_size=5, max_size=5)
PAIRED = st.fixed_dictionaries({name: FIVE for name in theory.QUANTITIES})
# The same runs for every quantity, or not.
RUNS = st.one_of(FIVE, FIVE, FIVE, SHORT_SERIES)
BY_ELL = st.fixed_dictionaries(
    {
        name: st.one_of(
            st.fixed_dictionaries({ell: RUNS for ell in ELLS}),
            st.dictionaries(ANY_FLOAT, RUNS, max_size=3),
        )
        for name in theory.QUANTITIES
    }
)
CRITERIA = st.sampled_from(
    [
        None,
        {"weight_norm": theory.Criterion.within_factor(1.1)},
        {"gradient_signal": theory.Criterion.within_difference(0.1)},
    ]
)
OPTIMIZERS = st.sampled_from(
    [
        keras.optimizers.SGD(0.1, weight_decay=1e-3),
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.optimizers.Adam(1e-3, use_ema=True),
        keras.optimizers.AdamW(1e-3, beta_1=0.0),
        keras.optimizers.RMSprop(1e-3, momentum=0.5),
        keras.optimizers.Lion(1e-3),
        keras.optimizers.Ftrl(1e-3),
        keras.optimizers.Adamax(1e-3),
        keras_svag.SVAG(0.1, ell=4, weight_decay=1e-3),
    ]
)
RULE = mostly(st.sampled_from(["auto", "linear", "heavy_ball", "square_root"]))


@st.composite
def rows(draw, max_size=60):
    """Rows of a run: steps in order, everything else as it comes."""
    lengths = draw(st.lists(st.integers(1, 50), max_size=max_size))
    rate = draw(st.floats(1e-6, 10.0))
    values = st.one_of(st.none(), ANY_FLOAT) if draw(st.booleans()) else st.floats(1e-6, 10)
    step, result = 0, []
    for length in lengths:
        step += length
        row = {name: draw(values) for name in theory.QUANTITIES}
        result.append({"step": step, "learning_rate": rate, **row})
    return result


def advise(rows, optimizer, batch_size, **options):
    """`advise`, which takes finite weight norms for granted: the callback computes them."""
    finite = [{k: v if v is not None else float("nan") for k, v in row.items()} for row in rows]
    finite = [{**row, "batch_size": 2 * batch_size} for row in finite]
    found = advice.advise(finite, optimizer, **options)
    found.describe()
    return found


def read_any_checkpoint(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "latest.npz"
        path.write_bytes(content)
        checkpoints.read(path, ["model"])


def read_any_lines(content):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "metrics.jsonl"
        path.write_bytes(content)
        records.read_jsonl(path)
        records.read_json(path)


TARGETS = {
    "svag_coefficients": (theory.svag_coefficients, {"ell": NUMBER}),
    "svag_steps": (theory.svag_steps, {"sgd_steps": COUNT, "ell": NUMBER}),
    "svag_epochs": (theory.svag_epochs, {"sgd_epochs": COUNT, "ell": NUMBER}),
    "find_rule": (scaling.find_rule, {"optimizer": OPTIMIZERS, "rule": RULE}),
    "max_kappa": (scaling.max_kappa, {"optimizer": OPTIMIZERS, "rule": RULE}),
    "scale_optimizer": (
        scaling.scale_optimizer,
        {"optimizer": OPTIMIZERS, "kappa": st.one_of(NUMBER, st.floats()), "rule": RULE},
    ),
    "mean_interval": (
        theory.mean_interval,
        {"values": SERIES, "confidence": CONFIDENCE},
    ),
    "ratio_interval": (
        theory.ratio_interval,
        {"a": SHORT_SERIES, "b": SHORT_SERIES, "confidence": CONFIDENCE},
    ),
    "difference_interval": (
        theory.difference_interval,
        {"a": SHORT_SERIES, "b": SHORT_SERIES, "confidence": CONFIDENCE},
    ),
    "extrapolate": (
        theory.extrapolate,
        {
            "ell_a": st.floats(1, 8),
            "values_a": st.lists(ANY_FLOAT, min_size=3, max_size=3),
            "ell_b": st.floats(8.5, 64),
            "values_b": st.lists(ANY_FLOAT, min_size=3, max_size=3),
        },
    ),
    "judge_sde": (
        theory.judge_sde,
        {"values": BY_ELL, "closeness": NUMBER, "look": COUNT, "criteria": CRITERIA},
    ),
    "judge_scaling": (
        theory.judge_scaling,
        {
            "base": QUANTITIES,
            "other": QUANTITIES,
            "closeness": NUMBER,
            "look": COUNT,
            "criteria": CRITERIA,
        },
    ),
    "judge_noisy_gradient_descent": (
        theory.judge_noisy_gradient_descent,
        {
            "first": PAIRED,
            "second": PAIRED,
            "margin": SMALL,
            "confidence": CONFIDENCE,
            "look": COUNT,
            "criteria": CRITERIA,
        },
    ),
    "fit_errors": (
        theory.fit_errors,
        {
            "values": st.dictionaries(st.sampled_from(ELLS), RUNS, max_size=4),
            "reference": RUNS,
            "paired": st.booleans(),
            "confidence": CONFIDENCE,
        },
    ),
    "spent_at": (theory.spent_at, {"look": COUNT, "confidence": NUMBER}),
    "sde_threshold": (theory.sde_threshold, {"closeness": NUMBER}),
    "sde_condition": (
        theory.sde_condition,
        {"noise": SHORT_SERIES, "signal": SHORT_SERIES, "closeness": NUMBER},
    ),
    "lsr_max_kappa": (
        theory.lsr_max_kappa,
        {
            "noise": SHORT_SERIES,
            "signal": SHORT_SERIES,
            "closeness": NUMBER,
            "form": mostly(st.sampled_from(["tight", "paper"])),
        },
    ),
    "correct_signal": (
        theory.correct_signal,
        {
            "signal": ANY_FLOAT,
            "noise": ANY_FLOAT,
            "batch_size": COUNT,
            "num_examples": COUNT,
            "mode": MODE,
        },
    ),
    "correct_noise": (
        theory.correct_noise,
        {"noise": ANY_FLOAT, "batch_size": COUNT, "num_examples": COUNT, "mode": MODE},
    ),
    "noise_and_signal_for_scaling": (
        theory.noise_and_signal_for_scaling,
        {
            "noise": ANY_FLOAT,
            "signal": ANY_FLOAT,
            "batch_size": COUNT,
            "num_examples": COUNT,
            "mode": MODE,
        },
    ),
    "series_mean": (
        theory.series_mean,
        {"values": SERIES, "method": mostly(st.sampled_from(["autocovariance", "batch_means"]))},
    ),
    "series_mean of weighted values": (
        lambda pairs: theory.series_mean(*map(list, zip(*pairs))) if pairs else None,
        {"pairs": st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT), max_size=45)},
    ),
    "relative_drift": (theory.relative_drift, {"values": SERIES}),
    "RunningMeans": (
        lambda rows, per_block: theory.RunningMeans.from_rows(
            rows, rows_per_block=per_block
        ).ratio(),
        {"rows": rows(), "per_block": COUNT},
    ),
    "equilibrium_weight_norm": (
        theory.equilibrium_weight_norm,
        {
            "noise": ANY_FLOAT,
            "signal": ANY_FLOAT,
            "learning_rate": SMALL,
            "weight_decay": SMALL,
            "ell": NUMBER,
        },
    ),
    "heavy_ball_weight_norm": (
        theory.heavy_ball_weight_norm,
        {
            "velocity_norm": ANY_FLOAT,
            "learning_rate": SMALL,
            "weight_decay": SMALL,
            "momentum": NUMBER,
        },
    ),
    "weight_norm_imbalance": (
        theory.weight_norm_imbalance,
        {
            "weight_norm": SHORT_SERIES,
            "noise": SHORT_SERIES,
            "signal": SHORT_SERIES,
            "steps": SHORT_SERIES,
            "learning_rate": SMALL,
            "weight_decay": SMALL,
            "ell": NUMBER,
        },
    ),
    "equilibrium_test": (
        theory.equilibrium_test,
        {"rows": rows(), "weight_decay": SMALL, "ell": NUMBER, "tolerance": SMALL},
    ),
    "constant_rate_segment": (constant_rate_segment, {"rows": rows()}),
    "advise": (
        advise,
        {
            "rows": rows(),
            "optimizer": OPTIMIZERS,
            "batch_size": st.integers(1, 512),
            "scale_invariant": st.sampled_from([None, True, False]),
            "kappa": st.one_of(st.none(), NUMBER),
            "rule": RULE,
            "closeness": NUMBER,
        },
    ),
    "step": (
        schedules.step,
        {
            "learning_rate": st.floats(1e-3, 1),
            "total": st.integers(1, 1000),
            "decay_at": mostly(st.lists(st.floats(0, 1), max_size=3)),
            "decay_factor": SMALL,
        },
    ),
    "cosine": (
        schedules.cosine,
        {"learning_rate": st.floats(1e-3, 1), "total": st.integers(1, 1000), "alpha": FRACTION},
    ),
    "triangle": (
        schedules.triangle,
        {
            "learning_rate": st.floats(1e-3, 1),
            "total": st.integers(1, 1000),
            "heights": mostly(st.lists(st.floats(0.1, 1), max_size=3)),
            "alpha": FRACTION,
        },
    ),
    "warm_up": (
        schedules.warm_up,
        {
            "schedule": st.floats(1e-3, 1),
            "total": st.integers(1, 1000),
            "fraction": FRACTION,
            "factor": SMALL,
            "gradual": st.booleans(),
        },
    ),
    "LinearProblem": (
        lambda a, b, steps, time, **options: (
            problem := theory.LinearProblem(a, b, **options),
            problem.svag_moments(4.0, 1.0, steps),
            problem.sde_moments(1.0, time),
        ),
        {
            "a": mostly(SHORT_SERIES),
            "b": mostly(SHORT_SERIES),
            "learning_rate": SMALL,
            "weight_decay": SMALL,
            "momentum": FRACTION,
            "batch_size": COUNT,
            "steps": COUNT,
            "time": st.one_of(SMALL, st.floats(0, 10)),
        },
    ),
    "gaussian_loss_weights": (
        theory.gaussian_loss_weights,
        {"normals": SERIES, "batch_size": COUNT, "noise_steps": NUMBER},
    ),
    "standard_normals": (
        theory.standard_normals,
        {"count": COUNT, "seed": COUNT, "start": COUNT, "stop": mostly(st.integers(0, 300))},
    ),
    "Sampler": (
        lambda start, **options: Sampler(**options).rows(start, start + 3),
        {
            "start": st.integers(0, 1000),
            "num_examples": mostly(st.integers(1, 300)),
            "batch_size": mostly(st.integers(1, 100)),
            "mode": MODE,
            "seed": COUNT,
        },
    ),
    "load_recipe": (
        load_recipe,
        {"text": st.one_of(GARBAGE, st.text(), st.from_regex(r"~?[./a-z]*(\.py)?:[a-z_]*"))},
    ),
    "local_folder": (
        local_folder,
        {"name": st.just("workdir"), "value": st.one_of(GARBAGE, st.text(), st.from_regex(PATH))},
    ),
    "parse_shard": (shard.parse_shard, {"text": mostly(st.from_regex(r"\d/\d\d?"))}),
    "a checkpoint of any bytes": (
        read_any_checkpoint,
        {"content": st.one_of(st.binary(), st.binary().map(lambda b: b"PK\x03\x04" + b))},
    ),
    "records of any bytes": (read_any_lines, {"content": st.binary()}),
}
# Of these huge valid arguments mean huge work.
BOUNDED = {"standard_normals", "Sampler", "LinearProblem"}


def is_ours(error):
    """Returns True if our own code raised the error, with its own message."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    return pathlib.Path(raised_in).resolve().is_relative_to(PACKAGE)


def is_huge(value):
    return isinstance(value, int) and value > 10**5


@pytest.mark.parametrize("examples", PROFILES)
@pytest.mark.parametrize("name", TARGETS)
def test_only_our_own_value_errors(name, examples):
    function, arguments = TARGETS[name]

    @settings(settings.get_profile("faults"), max_examples=examples)
    @given(st.fixed_dictionaries(arguments))
    def check(values):
        if name in BOUNDED and any(map(is_huge, values.values())):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                function(**values)
            except ValueError as error:
                assert is_ours(error), f"{error!r} from {values!r}"
                assert len(str(error)) > 20

    check()
