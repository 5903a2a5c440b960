"""Helpers of the tests of studies."""

import contextlib
import csv
import io
import math
import os
import pathlib

import numpy as np
import pytest
from scipy import stats

from configs.digits import get_config
from keras_svag.config import build_study
from keras_svag.engine.files import records, results
from keras_svag.engine.state import RunFolder
from keras_svag.studies.base.study import STUDIES


def hide_figures(monkeypatch):
    """Lets studies of this process draw no figures, which cost seconds each time."""
    for cls in STUDIES.values():
        monkeypatch.setattr(cls, "figures", lambda *_: [])


def study_config(**changes):
    """The quick config with one batch size (22 effective steps) and four checkpoints a run."""
    config = get_config("quick").to_dict()
    config["num_checkpoints"] = 4  # after records 3, 6, 9 and 10
    config["model"]["depth"] = 2  # as in tests/mlp_oracle.py
    config["sde_validity"] = {
        "batch_sizes": [128],
        "ells": [1.0, 2.0, 4.0, 8.0],
        "max_ell": 8.0,
    }
    return config | changes


def build(config, name="sde_validity"):
    """The study of a config."""
    return build_study(config, name)[0]


def run_study(config, name, workdir, command=("python", "study.py")):
    """Runs the study of a config; returns its `Result`."""
    study, num_workers = build_study(config, name)
    return study.run(workdir, num_workers, show_progress=False, command=list(command))


def files_of(folder, *ignored):
    """Bytes of each file under a folder, by its path in it."""
    folder = pathlib.Path(folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if name not in ignored}


def replace_records(path, rows):
    """Replaces the records of a finished run, with a result that says so."""
    records.write_jsonl(path, rows)
    folder = RunFolder(path.parents[2], path.parent.name)
    result = records.read_sealed(folder.result)
    results.write(folder, results.spec_of(result), result, rows)


@contextlib.contextmanager
def read_only(folder):
    """A folder that this process may not write to, also where it runs as root."""
    os.chmod(folder, 0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # nobody
        yield
    finally:
        os.seteuid(user)
        os.chmod(folder, 0o755)


def assert_refused(workdir, study, *words):
    """The folder belongs to another study: the error has the words, and nothing is written."""
    before = files_of(workdir)
    with pytest.raises(ValueError) as error:
        study.run(workdir, num_workers=1, show_progress=False)
    message = str(error.value)
    for word in ("`workdir`", repr(str(workdir)), "Use another workdir", *words):
        assert word in message, message
    assert files_of(workdir) == before


def scaling_config(batch_sizes=(4, 16, 32, 64), base=8, **changes):
    """The quick config with a sweep; fields of its part for this study, or others, replaced."""
    config = get_config("quick").to_dict()
    study = config["linear_scaling"]
    study["batch_sizes"] = batch_sizes
    study |= {name: changes.pop(name) for name in list(changes) if name in study}
    config["learning_rate"] *= base / config["base_batch_size"]
    optimizer = {"name": "SVAG"}
    return config | {"base_batch_size": base, "optimizer": optimizer} | changes


def read_table(workdir):
    """Rows of results.csv, numbers as floats."""

    def number(text):
        try:
            return float(text)
        except ValueError:
            return text

    rows = csv.DictReader(io.StringIO((workdir / "results.csv").read_text()))
    return [{name: number(text) for name, text in row.items()} for row in rows]


def one_sided_level(other, base, ratio):
    """Level at which Welch's test of `other - ratio base` rejects zero."""
    parts = np.array([other.var(ddof=1) / len(other), ratio**2 * base.var(ddof=1) / len(base)])
    freedoms = np.array([len(other), len(base)]) - 1
    dof = parts.sum() ** 2 / np.sum(parts**2 / freedoms)
    return stats.t.sf(abs(other.mean() - ratio * base.mean()) / math.sqrt(parts.sum()), dof)
