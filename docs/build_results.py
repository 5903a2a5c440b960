"""Writes the tables of docs/results.md from the kept files of studies in docs/results/.

    python -m docs.build_results

`docs/results/studies.json` lists the studies: `name` (a folder with the `verdict.json` and
`results.csv` of the study), `claim`, `expected` by the paper (see `_confirms`), `trained`,
`command`, `minutes`. Between `<!-- NAME -->` and `<!-- end -->` the page has the table of a study,
or the summary.
"""

import json
import math
import pathlib
import re

from keras_svag.theory import Interval
from keras_svag.theory.outcomes import FAILS, HOLDS, INCONCLUSIVE

FOLDER = pathlib.Path(__file__).parent / "results"
PAGE = FOLDER.parent / "results.md"
BOUND = "below the bound"
SYMBOLS = {
    "weight_norm": "R",
    "gradient_noise": "N",
    "scaled_noise": "B N",
    "gradient_signal": "G",
    "noise_to_signal": "N/G",
}


def build(page, studies):
    """Returns the text of the page with the tables of its studies as they are now."""
    tables = {"summary": summary(studies)}
    return replace_tables(page, tables | {study["name"]: table(study) for study in studies})


def replace_tables(page, tables):
    """Returns the text of a page with these tables, by name, in place of those that it has."""

    def replace(match):
        name = match["name"]
        return f"<!-- {name} -->\n{tables[name]}\n<!-- end -->"

    return re.sub(r"<!-- (?P<name>\w+) -->\n.*?<!-- end -->", replace, page, flags=re.DOTALL)


def load_studies():
    """Returns the listed studies, each with its verdict."""
    studies = json.loads((FOLDER / "studies.json").read_text())
    for study in studies:
        study["verdict"] = json.loads((FOLDER / study["name"] / "verdict.json").read_text())
    return studies


def summary(studies):
    """The table of all studies: claim, verdict, whether it is confirmed, minutes."""
    head = ["claim of the paper", "trained here", "verdict", "the claim is", "minutes"]
    rows = [
        [s["claim"], s["trained"], _outcome(s["verdict"]), _agreement(s), s["minutes"]]
        for s in studies
    ]
    rows.append(["", "", "", "all studies", sum(s["minutes"] for s in studies)])
    return format_table(head, rows)


def format_table(head, rows):
    """Formats a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in lines)


def _agreement(study):
    verdict = study["verdict"]
    is_guide = study["expected"] == BOUND and not _is_theorem(verdict)
    yes = "agrees (guide)" if is_guide else "confirmed"
    return {True: yes, False: "refuted", None: "open"}[_confirms(verdict, study["expected"])]


def _is_theorem(verdict):
    """Whether all assumptions hold under which N/G gives a bound; otherwise it gives a guide."""
    return all(verdict["premises"].values())


def _confirms(verdict, expected):
    """Whether a verdict is the expected one; `None` if it is inconclusive.

    Expected of a scaling study is {KAPPA: "holds" or "fails"}, or `BOUND`: all beyond the bound
    fails. Of others it is the verdict.
    """
    if expected == BOUND:
        bound = verdict["predicted_max_kappa"]["tight"]
        high = math.inf if bound["ci_high"] is None else bound["ci_high"]
        found = [s["outcome"] for s in verdict["settings"] if s["kappa"] > high]
        if HOLDS in found:
            return False
        return True if found and set(found) == {FAILS} else None
    if isinstance(expected, dict):
        found = {f"{s['kappa']:g}": s["outcome"] for s in verdict["settings"]}
        pairs = [(found[kappa], outcome) for kappa, outcome in expected.items()]
    else:
        pairs = [(found["verdict"], expected) for found in verdict["verdicts"]]
    if any(found not in (outcome, INCONCLUSIVE) for found, outcome in pairs):
        return False
    return None if any(found == INCONCLUSIVE for found, _ in pairs) else True


def _outcome(verdict):
    if verdict["study"] == "linear_scaling":
        bound = verdict["predicted_max_kappa"]["tight"]
        kappas = {word: [] for word in (HOLDS, FAILS, INCONCLUSIVE)}
        for setting in verdict["settings"]:
            if setting["kappa"] != 1:
                kappas[setting["outcome"]].append(_number(setting["kappa"]))
        words = {HOLDS: "**holds** at", FAILS: "**fails** at", INCONCLUSIVE: "open at"}
        parts = [f"{words[w]} {', '.join(found)}" for w, found in kappas.items() if found]
        text = f"kappa: {', '.join(parts)}"
        prediction = "predicted: at most" if _is_theorem(verdict) else "guide:"
        return f"{text}; {prediction} {interval(bound)}"
    return "; ".join(
        f"B = {found['batch_size']}: **{found['verdict']}** ({_ratios(verdict, found)})"
        for found in verdict["verdicts"]
    )


def _ratios(verdict, found):
    """What SGD is compared by, as ratios with their intervals."""
    ratios = found.get("ratios") or {
        row["quantity"]: row["ratio"] for row in sgd_and_ngd(verdict, found["batch_size"])
    }
    return ", ".join(f"{_symbol(name)} {interval(ratio)}" for name, ratio in ratios.items())


def sgd_and_ngd(verdict, batch_size):
    """The comparisons on which the verdict on Gaussian noise rests, at a batch size."""
    expected = ("SGD", "NGD", batch_size)
    return [
        row
        for row in verdict["comparisons"]
        if (row["first"], row["second"], row["batch_size"]) == expected
    ]


def _symbol(name):
    return SYMBOLS.get(name, name.replace("_", " "))


def table(study):
    """The settings of a study: what was measured at each, with 95 % intervals over seeds."""
    verdict = study["verdict"]
    is_scaling = verdict["study"] == "linear_scaling"
    varied = "kappa" if is_scaling else "ell" if "ell" in verdict["settings"][0] else "method"
    noise = "scaled_noise" if is_scaling else "gradient_noise"
    columns = [noise, "gradient_signal", "noise_to_signal", "weight_norm", "train_loss"]
    columns = [c for c in (*columns, "test_accuracy") if c in verdict["settings"][0]]
    head = ["B", varied, "seeds", *map(_symbol, columns)]
    rows = []
    for setting in verdict["settings"]:
        cells = [setting["batch_size"], _number(setting[varied]), setting["num_seeds"]]
        cells += [interval(setting[c]) for c in columns]
        rows.append(cells)
    return format_table(head, rows)


def interval(value):
    """A mean with its interval, to three digits."""
    if value is None or value["mean"] is None:
        return "-"
    low, high = value["ci_low"], value["ci_high"]
    unbounded = -math.inf if low is None else low, math.inf if high is None else high
    return str(Interval(value["mean"], *unbounded))


def _number(value):
    return value if isinstance(value, str) else "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    PAGE.write_text(build(PAGE.read_text(), load_studies()))
