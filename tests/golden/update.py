"""What the quick studies leave, as one flat dict a study; as a program it writes the golden files.

    KERAS_BACKEND=tensorflow python -m tests.golden.update
    KERAS_BACKEND=jax python -m tests.golden.update

A name such as `sde_validity` writes only that study's. Run it after a change that is meant to
change what studies leave, and read the diff: every line there is something that users see.
"""

import csv
import json
import math
import pathlib
import re
import sys
import tempfile

import keras
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tests.trainers.command import trainer

# Config and learning rate: a twentieth of the config's, at which training amplifies rounding errors
# no more. At the config's own, another processor's losses differ by 7 %, intervals by half.
STUDIES = {
    "sde_validity": ("digits", 0.01),
    "linear_scaling": ("digits", 0.01),
    "noisy_gradient_descent": ("digits", 0.01),
    "branched_batch_size": ("digits", 0.01),
    "weak_convergence": ("weak_convergence", 0.08),
    "train": ("digits", 0.01),
}
# Files that hold no time, path or version but for these keys.
JSON_FILES = ("config.json", "verdict.json", "prediction.json", "result.json")
LEFT_OUT = ("seconds",)
# Keys of config and results with values that differ from one machine to the next.
MASKED = re.compile(r"(config|result)\.json/(sha256|\w+_sha256|identity|versions)$")
DIGITS = 9  # significant ones, all that a float32 has


def golden_file(study):
    """Path of a study's golden file for the backend of this process."""
    return pathlib.Path(__file__).parent / keras.backend.backend() / f"{study}.json"


def run(study, workdir, *options, **environment):
    """Runs a quick study on the CPU, in a fork that has imported all; returns the ended process."""
    config, learning_rate = STUDIES[study]
    options = (f"--config.learning_rate={learning_rate}", f"--workdir={workdir}", *options)
    environment = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", **environment}
    config = f"--config=configs/{config}.py:quick"
    return trainer(config, *options, name=study, is_fresh=False, **environment)


def outputs(workdir):
    """Reads what a study left.

    Args:
        workdir: its folder.

    Returns:
        A dict from paths such as `verdict.json/verdicts/0/reason` or
        `runs/b32_ell1_seed0/metrics.jsonl/test_loss` to a string, bool, number or None, or to a
        list of those.
    """
    workdir = pathlib.Path(workdir)
    found = {name: _json(workdir / name) for name in JSON_FILES if (workdir / name).exists()}
    if (workdir / "results.csv").exists():
        with open(workdir / "results.csv", newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
        cells = {name: [_number(cell) for cell in c] for name, c in zip(columns, zip(*rows))}
        found["results.csv"] = {"columns": columns, **cells}
    found["tensorboard"] = _tags(workdir / "tensorboard")
    found["runs"] = {run.name: _run(run) for run in sorted((workdir / "runs").iterdir())}
    return dict(_leaves("", found))


def _run(folder):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    columns = {name: None for row in rows for name in row}
    return {
        "result.json": _json(folder / "result.json"),
        "metrics.jsonl": {name: [row.get(name, "absent") for row in rows] for name in columns},
        "tensorboard": _tags(folder / "tensorboard"),
    }


def _json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def _number(cell):
    """What is written in a cell of a CSV file; `nan` remains a string, which equals itself."""
    for kind in (int, float):
        try:
            value = kind(cell)
        except ValueError:
            continue
        return value if math.isfinite(value) else cell
    return cell


def _tags(folder):
    """Tags that a TensorBoard shows of a folder."""
    files = sorted(map(str, folder.glob("*tfevents*")))
    events = [event for file in files for event in EventFileLoader(file).Load()]
    return sorted({value.tag for event in events for value in event.summary.value})


def _leaves(path, value):
    """Pairs of a path and what is there, floats rounded."""
    if path.rpartition("/")[2] in LEFT_OUT:
        return
    if MASKED.search(path):
        value = "a dict" if isinstance(value, dict) else "a string"
    if isinstance(value, list) and value and any(isinstance(x, (dict, list)) for x in value):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(f"{path}/{key}".lstrip("/"), item)
    elif isinstance(value, list):
        yield path, [_rounded(item) for item in value]
    else:
        yield path, _rounded(value)


def _rounded(value):
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main(studies):
    """Writes the golden files of some studies, or of all."""
    for study in studies or STUDIES:
        with tempfile.TemporaryDirectory() as workdir:
            done = run(study, workdir)
            if done.returncode:
                sys.exit(done.stderr)
            lines = (
                f"{json.dumps(k)}: {json.dumps(v, allow_nan=False)}"
                for k, v in outputs(workdir).items()
            )
            path = golden_file(study)
            path.parent.mkdir(exist_ok=True)
            path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
            print(path)


if __name__ == "__main__":
    main(sys.argv[1:])
