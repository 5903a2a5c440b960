"""`benchmarks.accelerator`: which rows it makes; tests/accelerators/tpu_test.py compiles them."""

import json
import os

import pytest

from benchmarks import accelerator

ROW = {
    "topology": "v5e:2x2",
    "program": "svag",
    "model": "mlp",
    "batch_size": 8,
    "chips": 1,
    "dtype": "float32",
    "flops": 2e9,
    "temporary_bytes": 3 * 2**20,
    "kernels": {"total": 5},
    "compile_seconds": 7.0,
}


@pytest.fixture
def own_environment(monkeypatch):
    """The variables that the program sets are gone after the test."""
    monkeypatch.setattr(os, "environ", dict(os.environ))


def settings(*flags, chips=4):
    _, options = accelerator.parse(["--topology=v5e:2x2", "--output=rows.json", *flags])
    return list(accelerator.settings_of(options, ["plain", "svag"], chips))


def test_default_settings():
    found = settings()
    assert len(found) == 2 * 2 * 2 * 2  # models, chips, types, programs
    assert {(s["model"], s["batch_size"]) for s in found} == {("mlp", 8), ("preresnet8", 128)}
    assert {s["chips"] for s in found} == {1, 4}


def test_flags_narrow_them():
    flags = ("--models=gpt", "--chips=1,2", "--dtypes=float32", "--programs=svag", "--batch_size=3")
    assert settings(*flags) == [
        {
            "topology": "v5e:2x2",
            "program": "svag",
            "model": "gpt",
            "batch_size": 3,
            "chips": chips,
            "dtype": "float32",
        }
        for chips in (1, 2)
    ]


def test_description():
    assert accelerator.describe(ROW) == (
        "mlp svag B=8 float32, 1 of v5e:2x2: 2 GFLOP, 3.0 MiB of temporaries, 5 kernels, "
        "compiled in 7 s"
    )
    assert "GFLOP" not in accelerator.describe(ROW | {"flops": None})


@pytest.mark.requires_jax
def test_rows_that_are_there_are_kept(tmp_path, own_environment, monkeypatch):
    measured = []

    def measure(setting, target):
        measured.append(setting["dtype"])
        return ROW | setting

    monkeypatch.setattr(accelerator, "measure", measure)
    monkeypatch.setattr("keras_svag.accelerators.Target", lambda *arguments: None)
    output = tmp_path / "rows.json"
    output.write_text(json.dumps([ROW]))
    flags = ["--topology=v5e:2x2", "--models=mlp", "--programs=svag", "--chips=1"]
    accelerator.main([*flags, f"--output={output}"])
    assert measured == ["mixed_bfloat16"]
    assert [row["dtype"] for row in json.loads(output.read_text())] == ["float32", *measured]


@pytest.mark.parametrize(
    ("flag", "words"), [("--topology=2x2", "`topology` must be"), ("--models=", "models")]
)
def test_wrong_flags(tmp_path, own_environment, capsys, flag, words):
    with pytest.raises(SystemExit):
        accelerator.main(["--topology=v5e:1x1", f"--output={tmp_path / 'rows.json'}", flag])
    assert words in capsys.readouterr().err
