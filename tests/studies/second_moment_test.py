"""Tests of SDE validity with noise that has the second moment of SGD's steps."""

import pytest

from tests.studies.helpers import build, run_study, study_config

pytestmark = pytest.mark.usefixtures("without_figures")

GRID = {"batch_sizes": [128], "ells": [1.0, 2.0, 4.0, 8.0], "noise": "second_moment"}


def test_runs_above_ell_one_have_the_noise(tmp_path):
    study = build(study_config(sde_validity=GRID | {"max_ell": 8.0}, num_seeds=1))
    names = ["b128_ell1_seed0", "b128_second2_seed0", "b128_second4_seed0", "b128_second8_seed0"]
    assert [spec.name for spec in study.specs({})] == names
    # The runs of both noises fit in one folder: that of SGD is shared.
    other = GRID | {"max_ell": 8.0, "noise": "covariance"}
    config = study_config(num_seeds=2, max_num_seeds=2, epochs=1.0)
    result = run_study(config | {"sde_validity": GRID | {"max_ell": 8.0}}, study.name, tmp_path)
    second = result.details
    assert "second moment" in (tmp_path / "report.html").read_text()
    covariance = run_study(config | {"sde_validity": other}, study.name, tmp_path).details
    assert len(list((tmp_path / "runs").iterdir())) == 2 * (1 + 3 + 3)
    for details in (second, covariance):
        [entry] = details["verdicts"]
        assert entry["ratios"].keys() == {"weight_norm", "gradient_noise", "gradient_signal"}
    assert second["settings"][0] == covariance["settings"][0]
    assert second["settings"][1] != covariance["settings"][1]


def test_momentum_is_refused():
    config = study_config(sde_validity=GRID, optimizer={"name": "SVAG", "momentum": 0.9})
    with pytest.raises(ValueError, match="noise.*SGD without momentum. Received"):
        build(config)
    with pytest.raises(ValueError, match="noise.*one of.*Received: .*'third'"):
        build(study_config(sde_validity=GRID | {"noise": "third"}))
