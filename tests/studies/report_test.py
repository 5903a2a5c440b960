"""Tests of keras_svag/report/page.py: one page, self-contained, verdict first."""

import copy
import html.parser
import json
import re

import pytest

from keras_svag.engine.files import records
from keras_svag.report.page import render


class Page(html.parser.HTMLParser):
    """Text, tags and links of a page; also checks that tags are balanced."""

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.words, self._open = [], [], [], []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        links = [value for name, value in attrs if name in ("src", "href", "srcset", "data")]
        # Marks of a figure are drawn many times, by reference to the first.
        self.links += [link for link in links if not link.startswith("#")]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "title", "script"):
            self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture(scope="module")
def page(finished):
    return Page((finished[0] / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def inputs(finished, study):
    """Arguments of `render` for the finished study; the test may change them."""
    workdir, result = finished
    return {
        "study": study,
        "details": copy.deepcopy(records.read_json(workdir / "verdict.json")),
        "figures": [],
        "setting": records.read_sealed(workdir / "environment.json"),
        "table": result.table,
        "text": repr(result),
    }


def test_page_needs_nothing_from_outside(page, finished):
    assert page.links == []
    assert not {"link", "iframe", "img"} & set(page.tags)
    text = (finished[0] / "report.html").read_text(encoding="utf-8")
    assert "http://" not in text and "https://" not in text
    assert "@import" not in text and text.count("url(") == text.count("url(#")


def test_each_figure_is_there_for_a_wide_page_and_a_phone(page):
    assert page.tags.count("figure") == 2 and page.tags.count("svg") == 4
    names = ["Where amplification leads", "Curves at batch size 128, learning rate 3.2"]
    assert all(name in page.text for name in names)


def test_values_behind_the_curves_are_those_of_the_records(finished):
    workdir, _ = finished
    text = (workdir / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert len(scripts) == 4
    for curves in map(json.loads, scripts[2:]):
        panels = {panel["y"]: panel["series"] for panel in curves}
        assert list(panels["N = Tr Σ"]) == ["ℓ = 1 (SGD)", "ℓ = 2", "ℓ = 4", "ℓ = 8"]
        runs = [
            records.read_jsonl(workdir / "runs" / f"b128_ell4_seed{seed}" / "metrics.jsonl")
            for seed in (0, 1)
        ]
        for label, column in (("N = Tr Σ", "gradient_noise"), ("R = ‖x‖²", "weight_norm")):
            points = panels[label]["ℓ = 4"]["points"]
            means = [sum(row[column] for row in rows) / 2 for rows in zip(*runs)]
            assert [x for x, _ in points] == [row["effective_step"] for row in runs[0]]
            assert [y for _, y in points] == pytest.approx(means, rel=1e-5)


def test_verdict_then_figures_then_tables_then_command(page, finished):
    verdict = finished[1].details["verdicts"][0]
    order = [
        "Is SGD well modeled by its SDE?",
        verdict["verdict"],
        "At batch size 128 and learning rate 3.2",
        "The necessary condition",
        "What to do next",
        "At batch size 128, ",
        "How the verdict is reached",
        "Figures",
        "Where amplification leads.",
        "All settings",
        "How to reproduce it",
        "python -m trainers.sde_validity '--workdir=/tmp/two words'",  # fit to be pasted
        "learning_rate 0.2",
    ]
    positions = [page.text.find(words) for words in order]
    assert -1 not in positions, dict(zip(order, positions))
    assert positions == sorted(positions)


def test_numbers_of_the_table(page, finished):
    for setting in records.to_json(finished[1].details["settings"]):
        noise = setting["gradient_noise"]
        cell = f"{noise['mean']:.4g} [{noise['ci_low']:.3g}, {noise['ci_high']:.3g}]"
        assert cell in page.text
    # 22 + 44 + 88 + 176 steps, two seeds, two mini-batch gradients a step.
    assert "8 runs, 660 steps, 1,320 mini-batch gradients" in page.text


def test_words_of_users_are_escaped(inputs):
    inputs["setting"]["command"] = ["python", "<script>alert(1)</script>"]
    inputs["details"]["failed_runs"] = {"b8_ell1_seed0": "Run <b>b8</b> failed & stopped"}
    text = render(**inputs)
    assert "<script>alert" not in text and "<b>b8" not in text
    assert "Run <b>b8</b> failed & stopped" in Page(text).text


@pytest.mark.parametrize(
    ("holds", "words"), [(True, "holds"), (False, "fails"), (None, "is undecided")]
)
def test_condition_in_words(inputs, holds, words):
    entry = inputs["details"]["verdicts"][0]
    entry["necessary_condition"]["holds"] = holds
    assert "is not applied. Equilibrium" in Page(render(**inputs)).text
    entry["condition_not_applied"] = None
    text = Page(render(**inputs)).text
    assert f"The necessary condition N/G ≥ 1 {words} (measured on SGD:" in text


@pytest.mark.parametrize(
    ("verdict", "advice"),
    [
        ("valid", "At batch size 128, you can rely on the SDE"),
        ("invalid", "At batch size 128, do not rely on the SDE"),
        ("inconclusive", "At batch size 128, the verdict is inconclusive"),
    ],
)
def test_advice_goes_with_the_verdict(inputs, verdict, advice):
    remedy = "seeds" if verdict == "inconclusive" else None
    inputs["details"]["verdicts"][0] |= {"verdict": verdict, "remedy": remedy}
    page = Page(render(**inputs))
    assert advice in page.text
    assert page.tags.count("li") == 1


def test_flags_are_kept_together(inputs):
    inputs["details"]["verdicts"][0] |= {"verdict": "inconclusive", "remedy": "seeds"}
    seeds = 2 * inputs["study"].max_num_seeds
    flag = f'with <span class="flag">--config.max_num_seeds={seeds}</span> on the same workdir:'
    assert flag in render(**inputs)


def test_missing_values(inputs):
    # No ratios, no interval, a cell without a finished run.
    inputs["details"]["verdicts"][0]["ratios"] = {}
    settings = inputs["details"]["settings"]
    settings[0]["weight_norm"] = {"mean": 2.0, "ci_low": None, "ci_high": None}
    settings[1] = {"batch_size": 128, "learning_rate": 3.2, "ell": 2.0, "num_seeds": 0}
    text = Page(render(**inputs)).text
    assert "2 [?, ?]" in text and "128 2 0 – – –" in text
    assert "None" not in text and "nan" not in text


def test_accuracies_are_within_0_and_1(inputs):
    interval = {"mean": 0.97, "ci_low": 0.9, "ci_high": 1.04}
    inputs["details"]["settings"][0] |= {"test_accuracy": interval, "train_loss": interval}
    text = Page(render(**inputs)).text
    assert text.count("0.97 [0.9, 1]") == 1 and text.count("0.97 [0.9, 1.04]") == 1


def test_what_failed_is_at_the_top(inputs):
    inputs["details"]["failed_runs"] = {"b8_ell1_seed0": "Loss is inf at step 7."}
    text = Page(render(**inputs)).text
    before, _, after = text.partition("At batch size 128 and learning rate")
    assert "1 of 8 runs failed. Why Loss is inf at step 7." in before and after
    inputs["details"]["failed_runs"] = {}
    assert "All 8 runs finished." in Page(render(**inputs)).text


def test_assumptions_are_at_the_top(inputs):
    inputs["details"]["premises"] = {"weight decay": False, "momentum 0": True, "invariant": None}
    text = Page(render(**inputs)).text
    before = text.partition("At batch size 128 and learning rate")[0]
    assert "Assumptions of the theory that do not hold here: weight decay." in before
    assert "Unknown whether they hold: invariant." in before and "momentum 0" not in before
    inputs["details"]["premises"] = {"weight decay": True}
    assert "All assumptions of the theory hold." in Page(render(**inputs)).text


def test_a_provisional_page_says_so(inputs):
    assert "provisional" not in Page(render(**inputs)).text
    text = Page(render(**inputs, missing=3)).text
    assert "provisional 3 of the 11 planned runs have not finished." in text
    assert text.index("provisional") < text.index("What to do next")
    inputs["details"]["damaged_runs"] = ["b128_ell2_seed1"]
    assert "Left out, since files are damaged: b128_ell2_seed1." in Page(render(**inputs)).text
