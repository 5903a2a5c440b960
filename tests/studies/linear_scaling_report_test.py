"""Tests of keras_svag/studies/linear_scaling: figures, report, grid, wrong input."""

import pytest

from keras_svag.studies.linear_scaling import bound, figures
from tests.studies.helpers import build, run_study, scaling_config
from tests.studies.report_test import Page
from tests.studies.synthetic import scaling_world

N_TRAIN = 1437
METRIC = ("train_loss", "train loss", "log")


# Figures and report.


def test_figure_shows_the_verdict(run_scaling):
    world = scaling_world({8.0: (2.0, 0.5, 1.0)})
    result = run_scaling(world, draw=True, spread=lambda run: 0.01)
    verdict = result.details
    axes = result.plot("scaling").axes
    assert len(axes) == len(figures.SCALING) + 1  # and test accuracy
    for axis, (name, _) in zip(axes, figures.SCALING):
        points = [
            line for line in axis.lines if line.get_marker() in "Dox" and len(line.get_xdata())
        ]
        assert [line.get_xdata()[0] for line in points] == [0.5, 1, 2, 4, 8]
        assert [line.get_marker() for line in points] == ["o", "D", "o", "o", "x"]
        for line, setting in zip(points, verdict["settings"]):
            assert line.get_ydata()[0] == setting[name].mean
        labels = [line.get_label() for line in axis.lines]
        # Equilibrium was not tested.
        assert f"guide (tight) {verdict['predicted_max_kappa']['tight'].mean:.3g}" in labels
        assert "observed: holds up to 4" in labels
    curves = result.plot("scaling_curves").axes[2]
    assert curves.get_ylabel() == "R = ‖x‖²"
    assert [line.get_label() for line in curves.lines] == [f"B = {b}" for b in (4, 8, 16, 32, 64)]
    # 2 epochs, whatever the batch size.
    for line in curves.lines:
        assert line.get_xdata()[-1] == pytest.approx(2 * N_TRAIN / 1000, rel=0.02)


def test_only_a_bound_is_drawn_as_a_prediction(run_scaling):
    world = scaling_world({8.0: (2.0, 0.5, 1.0)})
    verdict = run_scaling(world, spread=lambda run: 0.01).details
    for holds, word in ((True, "predicted"), (False, "guide"), (None, "guide")):
        premises = {**verdict["premises"], bound.BASE_EQUILIBRIUM: holds}
        figure = figures.draw_scaling(verdict | {"premises": premises}, METRIC)
        labels = [line.get_label().partition(" (tight)")[0] for line in figure.axes[0].lines]
        assert labels.count(word) == 1


def test_report(scaling, tmp_path):
    scaling(scaling_world({8.0: (2.0, 1.0, 1.0)}), spread=lambda run: 0.01)
    text = Page((tmp_path / "report.html").read_text()).text
    order = [
        "How far does the linear scaling rule hold?",
        "Batch size 8 can be scaled by a factor of up to 4 together with the learning rate",
        "The first factor that fails is 8",
        "Predicted before any other run started",
        "lies below the tight bound",
        "What to do next",
        "replace batch size 8",
        "theorem for SGD without momentum",
        "Against the base runs",
        "All settings",
        "Equilibrium",
        "How to reproduce it",
    ]
    positions = [text.find(words) for words in order]
    assert -1 not in positions, dict(zip(order, positions))
    assert positions == sorted(positions)
    assert "None" not in text.split("How to reproduce it")[0] and "nan" not in text


def test_printed_table(run_scaling):
    lines = repr(run_scaling(scaling_world({8.0: (2.0, 1.0, 1.0)}))).splitlines()
    assert lines[0].split()[:5] == ["B", "kappa", "seeds", "B", "N"]
    assert [line.split()[:3] for line in lines[1:6]] == [
        [str(b), f"{b / 8:g}", "2"] for b in (4, 8, 16, 32, 64)
    ]
    assert [line.split()[-1] for line in lines[1:6]] == ["holds", "base", "holds", "holds", "fails"]
    assert "Predicted largest kappa (tight): 5 +- 0" in lines
    assert "Observed: holds up to 4, first fails at 8" in lines


# The grid, and wrong input.


def test_grid_has_the_base_and_scales_the_learning_rate():
    config = scaling_config(batch_sizes=[64, 4], num_seeds=3, max_num_seeds=3)
    specs = build(config, "linear_scaling").specs({})
    assert {spec.batch_size for spec in specs} == {4, 8, 64}
    for batch_size in (4, 8, 64):
        cell = [spec for spec in specs if spec.batch_size == batch_size]
        assert [spec.seed for spec in cell] == [0, 1, 2]
        assert {spec.ell for spec in cell} == {1.0}
        assert cell[0].learning_rate == pytest.approx(0.2 * batch_size / 8)
        assert cell[0].total == round(2 * N_TRAIN / batch_size)


def test_base_alone_gives_the_prediction(scaling, tmp_path):
    verdict = scaling(scaling_world({}), scaling_config(batch_sizes=(8,)))
    assert verdict["observed_max_kappa"]["value"] == 1.0
    assert "larger ones would show" in verdict["comparison"]["reason"]
    assert (tmp_path / "prediction.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "linear_scaling.batch_sizes.*empty"),
        ({"batch_sizes": (8, 0)}, "batch_size=0"),
        ({"criterion": "loss"}, "criterion.*'loss'"),
        ({"phase": "late"}, "phase.*'late'"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"sampling": "fixed_order"}, "sampling.*'fixed_order'"),
        ({"model": {"name": "mlp", "norm": "grup"}}, "norm.*'grup'"),
        ({"num_records": 1}, "num_records=1"),
        (
            {"sampling": "without_replacement", "batch_sizes": (8, 2000)},
            "1437 .*batch_size=2000",
        ),
        (
            {"sampling": "without_replacement", "batch_sizes": (8, N_TRAIN)},
            "batch_size=1437",
        ),
    ],
    ids=str,
)
def test_wrong_input_leaves_nothing_behind(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(scaling_config(**changes), "linear_scaling", tmp_path / "study")
    assert not (tmp_path / "study").exists()
