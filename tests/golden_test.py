"""Golden files: the quick study of each kind leaves what it left before.

`tests/golden/<backend>/<study>.json` holds config, verdict, prediction, result, table, records and
TensorBoard tags. `python -m tests.golden.update` writes them anew for the backend of KERAS_BACKEND.

Names, order of columns, structure, strings, ints and bools are exact. Floats have the tolerances
below, since other processors round otherwise: about ten times what changed, on both backends, under
another instruction set (XLA_FLAGS=--xla_cpu_max_isa=SSE4_2 with TF_ENABLE_ONEDNN_OPTS=0) and with
initial weights larger by one unit in the last place. No string, None or key changed under either.
"""

import json
import math
import re

import pytest

from configs.digits import get_config
from tests.golden import update
from tests.studies.helpers import files_of, run_study

EXAMPLE = 1 / 360  # what one test example counts in an accuracy; one changed
# The half width of an interval of two seeds is 6.4 times their difference.
TWO_SEEDS = 7
# Of the first pattern that the path has: relative and absolute tolerance.
TOLERANCES = {
    r"^config\.json": (0.0, 0.0),
    r"accuracy.*/ci_": (0.0, 3 * TWO_SEEDS * EXAMPLE),
    r"accuracy": (0.0, 3 * EXAMPLE),
    r"^verdict\.json/(exact|simulated)": (1e-5, 1e-7),  # float64, or a problem that contracts
    # The logarithm to base 2 of a ratio of errors, of which one is 1.3e-4 and may change by 5e-5.
    r"^verdict\.json/network/\d+/order/mean": (0.0, 0.8),
    # Intervals changed by 1e-3 of themselves, differences of losses by 5e-5.
    r"^(verdict|prediction)\.json": (1e-2, 5e-4),
    r"/(time|learning_rate|kappa)$": (1e-6, 0.0),
    # N and G are small differences: by 7e-4, of G about 0.2.
    r"_(noise|signal)$": (1e-2, 5e-3),
    r"": (2e-3, 0.0),  # losses and weight norms: by 1.5e-4
}
SENTENCE = re.compile(r"/(reason|message)$")
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
ROUNDED = 0.1  # numbers in sentences may have one digit


def differences(golden, found):
    """Sentences that say where two dicts such as `update.outputs` gives differ."""
    lines = [f"{path} is gone" for path in golden.keys() - found.keys()]
    lines += [f"{path} is new" for path in found.keys() - golden.keys()]
    for path in golden.keys() & found.keys():
        if not is_same(path, golden[path], found[path]):
            lines.append(f"{path} was {golden[path]!r} and is {found[path]!r}")
    return sorted(lines)


def is_same(path, old, new):
    """Whether two values of a path are equal up to rounding."""
    if type(old) is not type(new):
        return False
    if isinstance(old, list):
        return len(old) == len(new) and all(is_same(path, *pair) for pair in zip(old, new))
    if isinstance(old, float):
        relative, absolute = next(t for p, t in TOLERANCES.items() if re.search(p, path))
        return math.isclose(old, new, rel_tol=relative, abs_tol=absolute)
    if isinstance(old, str) and SENTENCE.search(path):
        numbers = zip(map(float, NUMBER.findall(old)), map(float, NUMBER.findall(new)))
        return NUMBER.split(old) == NUMBER.split(new) and all(
            math.isclose(*pair, rel_tol=ROUNDED, abs_tol=ROUNDED) for pair in numbers
        )
    return old == new


def load(study):
    """The golden file of a study for the backend of this process."""
    return json.loads(update.golden_file(study).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=update.STUDIES)
def done(request, tmp_path_factory):
    """A finished study: its name, its folder, and what it printed."""
    workdir = tmp_path_factory.mktemp("golden")
    process = update.run(request.param, workdir)
    assert process.returncode == 0, process.stderr
    return request.param, workdir, process.stdout


def test_study_leaves_what_it_left(done):
    study, workdir, _ = done
    found = differences(load(study), update.outputs(workdir))
    assert not found, "\n".join(found)


PRINTED = {
    "branched_batch_size": "Critical factor: ",
    "noisy_gradient_descent": "Batch size 128: SGD and NGD are",
    "weak_convergence": "Linear problem, real train step:",
}


def test_what_a_study_prints_and_reports(done):
    study, workdir, printed = done
    if study not in PRINTED:
        pytest.skip("has its own test in tests/trainers")
    assert PRINTED[study] in printed
    assert printed.splitlines()[-1] == f"Report: {workdir / 'report.html'}"
    assert json.loads((workdir / "verdict.json").read_text())["study"] == study
    page = (workdir / "report.html").read_text("utf-8")
    assert page.count("<figure>") == len(list(workdir.glob("figures/*.png"))) > 0
    assert "http://" not in page and "https://" not in page
    assert f"trainers.{study}" in page
    # The folder belongs to this study, and stays as it is.
    before = files_of(workdir)
    with pytest.raises(ValueError, match="workdir.*study"):
        run_study(get_config("quick"), "sde_validity", workdir)
    assert files_of(workdir) == before


RUN = "runs/b32_ell2_seed1"


@pytest.mark.parametrize(
    "path, change",
    [
        (f"{RUN}/metrics.jsonl/test_loss", lambda values: [*values[:-1], values[-1] * 1.01]),
        (f"{RUN}/metrics.jsonl/test_loss", lambda values: values[:-1]),
        (f"{RUN}/metrics.jsonl/test_accuracy", lambda values: [values[0] + 0.02, *values[1:]]),
        (f"{RUN}/metrics.jsonl/step", lambda values: [values[0] + 1, *values[1:]]),
        (f"{RUN}/tensorboard", lambda tags: tags[1:]),
        (f"{RUN}/result.json/total", float),
        ("config.json/closeness", lambda value: value + 1e-6),
        ("results.csv/columns", lambda names: [names[1], names[0], *names[2:]]),
        ("results.csv/name", lambda names: [*names[:-1], "b128_ell4_seed3"]),
        ("verdict.json/verdict", lambda verdict: f"{verdict}."),
        ("verdict.json/verdicts/0/reason", lambda text: text.replace(" SDE ", " ODE ")),
        ("verdict.json/verdicts/0/reason", lambda text: text.replace("noise N", "noise M")),
        ("verdict.json/measured_closeness/mean", lambda value: value * 1.02),
        ("verdict.json/measured_closeness/mean", lambda value: None),
    ],
)
def test_a_change_is_seen(path, change):
    golden = load("sde_validity")
    assert differences(golden, golden) == []
    changed = {**golden, path: change(golden[path])}
    assert len(differences(golden, changed)) == 1


def test_a_renamed_key_is_seen():
    golden = load("sde_validity")
    renamed = {path.replace("measured", "observed"): value for path, value in golden.items()}
    found = differences(golden, renamed)
    assert "verdict.json/measured_closeness/mean is gone" in found
    assert "verdict.json/observed_closeness/mean is new" in found
