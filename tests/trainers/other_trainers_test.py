"""The trainers of the other studies, run whole as a user runs them."""

import json

import pytest

from configs.digits import get_config
from tests.studies.helpers import run_study
from tests.trainers.command import trainer

CONFIGS = {
    "branched_batch_size": "configs/digits.py:quick",
    "noisy_gradient_descent": "configs/digits.py:quick",
    "weak_convergence": "configs/weak_convergence.py:quick",
}
PRINTED = {
    "branched_batch_size": "Critical factor: ",
    "noisy_gradient_descent": "Batch size 128: SGD and NGD are",
    "weak_convergence": "Linear problem, real train step:",
}


@pytest.mark.parametrize("name", CONFIGS)
def test_whole_run(name, tmp_path):
    workdir = tmp_path / "study"
    done = trainer(f"--config={CONFIGS[name]}", f"--workdir={workdir}", name=name)
    assert done.returncode == 0, done.stderr
    assert PRINTED[name] in done.stdout
    assert done.stdout.splitlines()[-1] == f"Report: {workdir / 'report.html'}"
    assert json.loads((workdir / "verdict.json").read_text())["study"] == name
    page = (workdir / "report.html").read_text("utf-8")
    assert page.count("<figure>") == len(list(workdir.glob("figures/*.png"))) > 0
    assert "http://" not in page and "https://" not in page
    assert f"trainers.{name}" in page
    # The folder belongs to this study.
    with pytest.raises(ValueError, match="workdir.*study"):
        run_study(get_config("quick"), "sde_validity", workdir)
