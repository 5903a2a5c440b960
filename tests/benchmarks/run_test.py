"""Every benchmark runs in its quick form."""

import json
import math

import pytest

from benchmarks import run
from benchmarks.figures import BENCHMARKS

SLOW_ON_TENSORFLOW = [pytest.mark.slow, pytest.mark.requires_tensorflow]


def test_letters():
    assert list(BENCHMARKS) == list(run.LETTERS)


@pytest.mark.parametrize(
    "letter",
    [pytest.param(x, marks=[] if x == "b" else SLOW_ON_TENSORFLOW) for x in run.LETTERS],
)
def test_quick(letter, tmp_path, capsys):
    output = tmp_path / "figures.json"
    run.main([f"--only={letter}", "--quick", f"--output={output}"])
    result = json.loads(output.read_text("utf-8"))
    printed = capsys.readouterr().out
    if letter == "c" and not result["figures"]:
        assert "PyTorch is not installed" in printed
        return
    assert result["figures"]
    for figure in result["figures"]:
        assert figure["letter"] == letter
        assert figure["name"] in printed
        assert len(figure["ratios"]) == figure["repeats"]
        assert all(math.isfinite(ratio) for ratio in figure["ratios"])
    assert result["environment"]["versions"]["keras"]
