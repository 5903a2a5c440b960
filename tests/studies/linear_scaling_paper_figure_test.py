"""Tests of the paper's figure with a study's own runs in it."""

import math

import pytest

from keras_svag.engine.files import records
from keras_svag.studies.linear_scaling.paper_figure import PUBLISHED, shaded_spans, signal_to_noise
from keras_svag.theory import Interval
from tests.studies.helpers import replace_records, scaling_config
from tests.studies.synthetic import make_pool, scaling_world

ERRORS = {4: 0.119, 8: 0.10, 16: 0.11, 32: 0.13, 64: 0.2}


def drawn(axis, name):
    return next(line for line in axis.lines if line.get_label() == name)


def test_own_runs_beside_the_published(run_scaling):
    result = run_scaling(
        scaling_world({}), draw=True, accuracy=lambda run: 1 - ERRORS[run.batch_size]
    )
    figure = result.plot("paper")
    ratio, error = figure.axes
    # N/G is 3 at B = 8 and falls as 1/B.
    own = drawn(ratio, "this study")
    assert list(own.get_xdata()) == [4, 8, 16, 32, 64]
    assert list(own.get_ydata()) == pytest.approx([1 / 6, 1 / 3, 2 / 3, 4 / 3, 8 / 3])
    assert list(drawn(error, "this study").get_ydata()) == pytest.approx(list(ERRORS.values()))
    assert any(list(line.get_ydata()) == pytest.approx([2, 2]) for line in ratio.lines)
    assert "C² = 2" in [text.get_text() for text in ratio.texts]
    for axis, name in ((ratio, "signal_to_noise"), (error, "test_error")):
        for curve in PUBLISHED:
            line = drawn(axis, curve.network)
            assert list(line.get_ydata()) == list(getattr(curve, name))
        assert axis.get_xscale() == "log" and axis.get_yscale() == "log"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "test error > 1.2 × lowest" in texts
    # Curves are named at their ends.
    names = ["this study", *(curve.network for curve in PUBLISHED)]
    assert sorted(text.get_text() for text in error.texts) == sorted(names)
    assert not set(names) & set(texts)
    # 0.13 and 0.2 are over 1.2 times 0.1: from between 16 and 32 on.
    [spans] = {tuple(p.get_x() for p in axis.patches) for axis in (ratio, error)}
    assert spans == pytest.approx((math.sqrt(16 * 32),))


def test_without_accuracy_there_is_one_panel(run_scaling):
    class Pool(make_pool(scaling_world({}))):
        def _execute(self, run):
            result = super()._execute(run)
            path = self._workdir / "runs" / run.name / "metrics.jsonl"
            rows = records.read_jsonl(path)
            for row in rows:
                del row["test_accuracy"]
            replace_records(path, rows)
            return result

    result = run_scaling(None, pool=Pool, draw=True)
    [axis] = result.plot("paper").axes
    assert axis.get_ylabel() == "G/N"
    assert not axis.patches


def test_failed_runs_are_shown(run_scaling):
    config = scaling_config(num_seeds=3, max_num_seeds=3)
    failed = ["b32_ell1_seed0", *(f"b64_ell1_seed{seed}" for seed in range(3))]
    result = run_scaling(scaling_world({}), config, failed=failed, draw=True)
    ratio, error = result.plot("paper").axes
    texts = {text.get_position()[0]: text.get_text() for text in ratio.texts}
    texts = {place: text for place, text in texts.items() if "failed" in text}
    assert texts == {32: "1 of 3 runs failed", 64: "3 of 3 runs failed"}
    assert list(drawn(error, "this study").get_xdata()) == [4, 8, 16, 32]
    assert len(ratio.patches) == 1  # where nothing finished


def setting(batch_size, error, spread=0.0):
    accuracy = Interval(1 - error, 1 - error - spread, 1 - error + spread)
    return {"batch_size": batch_size, "test_accuracy": accuracy}


def test_spans_by_hand():
    sizes = [2, 8, 32, 128]
    settings = [setting(b, e) for b, e in zip(sizes, (0.25, 0.2, 0.24, 0.3))]
    # 1.2 times 0.2 is 0.24, which is not above; the first and the last are.
    low, high = shaded_spans(settings, 1.2001)
    assert low == pytest.approx((1, 4)) and high == pytest.approx((64, 256))
    assert shaded_spans(settings, 1.6) == []
    nothing = [*settings[:3], {"batch_size": 128}]
    assert shaded_spans(nothing, 1.6) == [pytest.approx((64, 256))]
    # Neighbors are one span.
    assert shaded_spans(settings, 1.1) == [pytest.approx((1, 4)), pytest.approx((16, 256))]
    assert shaded_spans(settings[:1], 1.2) == []


def test_interval_of_the_inverse():
    found = signal_to_noise({"noise_to_signal": Interval(4.0, 2.0, 5.0)})
    assert (found.mean, found.ci_low, found.ci_high) == (0.25, 0.2, 0.5)
    open_ends = signal_to_noise({"noise_to_signal": Interval(4.0, -1.0, math.inf)})
    assert (open_ends.ci_low, open_ends.ci_high) == (0.0, math.inf)
    assert signal_to_noise({"noise_to_signal": Interval(math.inf, 0.0, math.inf)}) is None
    assert signal_to_noise({}) is None
