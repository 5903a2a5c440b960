"""Bits that flip in the files of a finished study: said, or without effect, never used silently."""

import functools
import random
import shutil
import warnings

import matplotlib.figure
import pytest

from keras_svag.engine.files import records
from keras_svag.report.drawing import Drawing
from keras_svag.studies import SDEValidity, load
from tests.faults.quick_study import make_study, patch_studies, run

RUN = "runs/b8_ell2_seed1"
FILES = (
    *("config.json", "environment.json", "looks.json", "verdict.json", "results.csv"),
    *("figures/loss.png", "report.html", "tensorboard/events.out.tfevents.0.keras_svag"),
    *(f"{RUN}/result.json", f"{RUN}/metrics.jsonl", f"{RUN}/checkpoint/latest.npz"),
    f"{RUN}/tensorboard/events.out.tfevents.0.keras_svag",
)
# Of a finished run nobody reads them.
NEVER_READ = (f"{RUN}/checkpoint/latest.npz", f"{RUN}/tensorboard/")


def figures(study, table, details, workdir):
    """One figure, drawn in a few hundredths of a second."""
    losses = [row["train_loss"] for row in table]
    return [Drawing("loss", "Loss", "The loss of each run.", functools.partial(draw, losses))]


def draw(losses):
    figure = matplotlib.figure.Figure(figsize=(1, 1))
    figure.subplots().plot(losses)
    return figure


@pytest.fixture
def finished(monkeypatch, tmp_path):
    """A study, its folder and its files."""
    patch_studies(monkeypatch)
    monkeypatch.setattr(SDEValidity, "figures", figures)
    study = make_study()
    return study, tmp_path / "whole", run(study, tmp_path / "whole")


def flip(path, rng):
    content = bytearray(path.read_bytes())
    position = rng.randrange(len(content))
    content[position] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def said(call):
    """What a call returns, or `None`, and all that it said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            value, errors = call(), []
        except ValueError as error:
            value, errors = None, [str(error)]
    return value, [*errors, *(str(w.message) for w in caught if w.category is UserWarning)]


def check_flips(finished, folder, name, count):
    study, whole, expected = finished
    details = records.to_json(load(whole).details)
    rng, outcomes = random.Random(name), []
    for _ in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        flip(folder / name, rng)
        loaded, sentences = said(lambda: load(folder))
        if loaded is not None and records.to_json(loaded.details) != details:
            # A run that is left out.
            assert sentences and RUN in sentences[0] and len(loaded.table) == 3
        if loaded is None:
            assert name in sentences[0] and "\n" not in sentences[0]
        left, sentences = said(lambda: run(study, folder))
        if left is None:
            assert name in sentences[0] and "is damaged" in sentences[0] and len(sentences) == 1
            outcomes.append("refused")
            continue
        assert left.keys() == expected.keys()
        different = [n for n in expected if left[n] != expected[n] and not n.startswith(NEVER_READ)]
        assert different == [], sentences
        assert all(name in sentence and "is damaged" in sentence for sentence in sentences)
        outcomes.append("restored" if sentences else "without effect")
    return {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}


@pytest.mark.parametrize("name", FILES)
def test_a_few_bits(finished, tmp_path, name):
    check_flips(finished, tmp_path / "flipped", name, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_200_bits(finished, tmp_path, name):
    print(name, check_flips(finished, tmp_path / "flipped", name, 200))


def test_every_kind_of_file_is_flipped(finished):
    _, _, expected = finished
    first = [name for name in expected if not name.startswith("runs/") or name.startswith(RUN)]
    assert sorted(first) == sorted(FILES)
