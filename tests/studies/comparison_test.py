"""Two studies side by side."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from keras_svag.engine.files import records
from keras_svag.studies import compare, load
from tests.studies.helpers import files_of, run_study, scaling_config, study_config
from tests.studies.synthetic import scaling_world

NAMES = {"weight_norm", "gradient_noise", "gradient_signal"}


@pytest.fixture
def two(tmp_path, use_pool):
    """Folders of two studies; the second has twice the noise and other ells."""
    folders = [tmp_path / "first", tmp_path / "second"]
    configs = [
        study_config(num_seeds=3, max_num_seeds=3),
        study_config(
            num_seeds=5,
            max_num_seeds=5,
            learning_rate=0.1,
            sde_validity={"batch_sizes": [128], "ells": [1.0, 4.0, 16.0]},
        ),
    ]
    for noise, folder, config in zip((1.0, 2.0), folders, configs):
        use_pool(lambda run, noise=noise: (100.0, noise, 0.5), spread=lambda run: 0.1)
        run_study(config, "sde_validity", folder)
    return folders


def values_of(workdir, ell, name):
    """A quantity of all seeds, constant over a run."""
    paths = sorted(workdir.glob(f"runs/b128_ell{ell}_seed*/metrics.jsonl"))
    return np.array([records.read_jsonl(path)[-1][name] for path in paths])


def test_table(two):
    table = compare(*two).table
    # What both have: ell = 1 and 4.
    assert {(row["batch_size"], row["ell"]) for row in table} == {(128, 1.0), (128, 4.0)}
    for row in (row for row in table if row["quantity"] in NAMES):
        first, second = (values_of(w, f"{row['ell']:g}", row["quantity"]) for w in two)
        assert (len(first), len(second)) == (3, 5)
        assert row["first"] == pytest.approx(first.mean())
        assert row["second"] == pytest.approx(second.mean())
        expected = np.exp(np.log(second).mean() - np.log(first).mean())
        assert row["ratio"].mean == pytest.approx(expected)
        assert row["ratio"].ci_low < expected < row["ratio"].ci_high
    assert {row["quantity"] for row in table} >= NAMES


def test_settings_that_differ_are_named(two):
    comparison = compare(*two)
    found = "; ".join(comparison.differences)
    assert "learning_rate: 0.2 -> 0.1" in found and "sde_validity.ells" in found
    assert "epochs" not in found
    for words in ("learning_rate: 0.2 -> 0.1", str(two[0]), str(two[1]), "gradient_noise"):
        assert words in repr(comparison)


def test_same_folder_has_no_differences(two):
    comparison = compare(two[0], load(two[0]))
    assert comparison.differences == []
    assert all(row["ratio"].mean == pytest.approx(1) for row in comparison.table)


def test_plot(two):
    before = [files_of(folder) for folder in two]
    figure = compare(*two).plot()
    assert isinstance(figure, Figure)
    noise = next(a for a in figure.axes if a.get_ylabel() == "N = Tr Σ")
    assert len(noise.lines) == 2
    for line, workdir in zip(noise.lines, two):
        expected = values_of(workdir, 1, "gradient_noise").mean()
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert compare(*two).plot(batch_size=128, ell=4) is not None
    assert [files_of(folder) for folder in two] == before


@pytest.mark.parametrize("arguments", [{"batch_size": 8}, {"ell": 2.0}, {"ell": 16.0}])
def test_plot_of_what_they_do_not_share(two, arguments):
    with pytest.raises(ValueError, match="batch_size"):
        compare(*two).plot(**arguments)


def test_other_kinds_are_refused(two, tmp_path, use_pool):
    use_pool(scaling_world({}))
    run_study(scaling_config(), "linear_scaling", tmp_path / "scaling")
    with pytest.raises(ValueError, match="sde_validity.*linear_scaling"):
        compare(two[0], tmp_path / "scaling")
    with pytest.raises(ValueError, match="workdir"):
        compare(two[0], tmp_path / "nowhere")
