"""Error rates of the verdicts, by simulated studies whose truth is known.

    python -m benchmarks.error_rates                      # minutes on 2 cores
    python -m benchmarks.error_rates --repetitions=2000 --output=rates.json

A study adds seeds while its verdict is inconclusive, as the real ones do. Rates are in percent.
False verdicts should be at most 5 %; docs/theory_verdicts.md has the table and what it means.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import itertools
import json
import math
import os
import pathlib

import numpy as np

from keras_svag.theory.statistics.order import fit_errors
from keras_svag.theory.verdicts.noisy_gradient_descent import judge_noisy_gradient_descent
from keras_svag.theory.verdicts.scaling import judge_scaling
from keras_svag.theory.verdicts.sde import judge_sde

CLOSENESS, MARGIN = math.sqrt(2), 0.15
ELLS = (1.0, 2.0, 4.0, 8.0)
QUANTITIES = ("R", "N", "G")
LOSSES = ("R", "train loss", "test loss", "final train loss", "final test loss")


@dataclasses.dataclass(frozen=True)
class Truth:
    """Expected ratios to the reference, and how SVAG tends to its limit."""

    name: str
    ratios: dict
    error: str = "order 1"
    failing_ell: float | None = None  # at which the first two runs fail

    def may_be(self, verdict, limit):
        """Whether a verdict is no error: on the limit itself neither word is right."""
        factors = [1.0, *(max(ratio, 1 / ratio) for ratio in self.ratios.values())]
        if verdict in ("valid", "holds", "equivalent"):
            return max(factors) < limit * (1 - 1e-9) and self.failing_ell is None
        return max(factors) > limit * (1 + 1e-9)


TRUTHS = (
    Truth("all ratios 1", {}),
    Truth("one at C", {"R": CLOSENESS}),
    Truth("all at C", dict.fromkeys(QUANTITIES, CLOSENESS)),
    Truth("R 2 and N 1/2", {"R": 2.0, "N": 0.5}),
    Truth("R 1.5, order 1/2", {"R": 1.5}, "order 1/2"),
    Truth("R 1.5, slow start", {"R": 1.5}, "slow start"),
    Truth("one at C, order 2", {"R": CLOSENESS}, "order 2"),
    Truth("2 of 4 SGD runs failed", {}, failing_ell=1.0),
    Truth("2 of 4 SVAG(8) runs failed", {}, failing_ell=8.0),
)
SCALING_TRUTHS = TRUTHS[:4]
NOISE_TRUTHS = (
    Truth("all ratios 1", {}),
    Truth("one at the margin", {"R": 1 + MARGIN}),
    Truth("all at the margin", dict.fromkeys(LOSSES, 1 + MARGIN)),
    Truth("one 1.4", {"R": 1.4}),
)
# The share of the error at l = 1 that is left at l.
ERRORS = {
    "order 1": lambda ell: 1 / ell,
    "order 1/2": lambda ell: ell**-0.5,
    "order 2": lambda ell: ell**-2.0,
    "slow start": lambda ell: 5 / (ell + 4),  # of order 1 from l = 4 on
}


def draw(generator, kind, spread, size):
    """Values of seeds with mean 1 and coefficient of variation `spread`."""
    if kind == "lognormal":
        sigma = math.sqrt(math.log1p(spread**2))
        return np.exp(sigma * generator.standard_normal(size) - sigma**2 / 2)
    if kind == "t3":
        return 1 + spread * generator.standard_t(3, size) / math.sqrt(3)
    normal = generator.standard_normal(size)
    if kind == "outlier":  # one seed in ten has three times the spread
        normal *= np.where(generator.random(size) < 0.1, 3.0, 1.0) / math.sqrt(1.8)
    return 1 + spread * normal


def simulate_sde(generator, kind, spread, truth, max_seeds):
    """Verdict and cost of one study of SDE validity, in runs of SGD."""

    def mean(quantity, ell):
        return 1 + (truth.ratios.get(quantity, 1.0) - 1) * ERRORS[truth.error](ell)

    values = {
        q: {ell: mean(q, ell) * draw(generator, kind, spread, max_seeds) for ell in ELLS}
        for q in QUANTITIES
    }
    if truth.failing_ell:
        for of_ell in values.values():
            of_ell[truth.failing_ell][:2] = np.nan

    def judge(count, look):
        seen = {q: {ell: x[:count] for ell, x in of.items()} for q, of in values.items()}
        return judge_sde(seen, CLOSENESS, look=look).verdict

    verdict, count = look_repeatedly(judge, max_seeds)
    return verdict, count * sum(ELLS)


def simulate_scaling(generator, kind, spread, truth, max_seeds):
    """Verdict and cost of the linear scaling rule at one batch size."""
    base = {q: draw(generator, kind, spread, max_seeds) for q in QUANTITIES}
    other = {
        q: truth.ratios.get(q, 1.0) * draw(generator, kind, spread, max_seeds) for q in QUANTITIES
    }

    def judge(count, look):
        seen = ({q: x[:count] for q, x in runs.items()} for runs in (base, other))
        return judge_scaling(*seen, CLOSENESS, look=look).verdict

    verdict, count = look_repeatedly(judge, max_seeds)
    return verdict, 2 * count


def simulate_noise(generator, kind, spread, truth, max_seeds):
    """Verdict and cost of SGD against Gaussian noise; the two share 3/4 of their variance."""
    first, second = {}, {}
    for quantity in LOSSES:
        shared = draw(generator, kind, spread * math.sqrt(0.75), max_seeds)
        own = (draw(generator, kind, spread / 2, max_seeds) - 1 for _ in range(2))
        first[quantity], second[quantity] = (shared + noise for noise in own)
        first[quantity] = first[quantity] * truth.ratios.get(quantity, 1.0)

    def judge(count, look):
        seen = ({q: x[:count] for q, x in runs.items()} for runs in (first, second))
        return judge_noisy_gradient_descent(*seen, MARGIN, look=look).verdict

    verdict, count = look_repeatedly(judge, max_seeds)
    return verdict, 2 * count


def look_repeatedly(judge, max_seeds, num_seeds=4):
    """Doubles the seeds while the verdict is inconclusive: the last verdict and its seeds."""
    for look in itertools.count(1):
        verdict = judge(num_seeds, look)
        if verdict != "inconclusive" or 2 * num_seeds > max_seeds:
            return verdict, num_seeds
        num_seeds *= 2
    raise AssertionError("unreachable")


# Study: the simulation, its truths, the limit that they are measured by, the numbers of seeds.
STUDIES = {
    "SDE validity": (simulate_sde, TRUTHS, CLOSENESS, (4, 16)),
    "linear scaling": (simulate_scaling, SCALING_TRUTHS, CLOSENESS, (4, 32)),
    "noisy gradient descent": (simulate_noise, NOISE_TRUTHS, 1 + MARGIN, (4, 32)),
}
VERDICTS = {
    "SDE validity": ("valid", "invalid"),
    "linear scaling": ("holds", "fails"),
    "noisy gradient descent": ("equivalent", "different"),
}
KINDS = ("lognormal", "normal", "t3", "outlier")
SPREADS = (0.03, 0.05, 0.1, 0.2, 0.4)


def rates(setting):
    """A row of the table: a dict."""
    study, kind, spread, index, max_seeds, repetitions = setting
    simulate, truths, limit, _ = STUDIES[study]
    truth = truths[index]
    seed = [KINDS.index(kind), round(1000 * spread), index, max_seeds]
    generator = np.random.default_rng(seed)
    found = [simulate(generator, kind, spread, truth, max_seeds) for _ in range(repetitions)]
    counts = collections.Counter(verdict for verdict, _ in found)
    wrong = sum(n for v, n in counts.items() if v != "inconclusive" and not truth.may_be(v, limit))
    return {
        "study": study,
        "seeds": kind,
        "spread": spread,
        "truth": truth.name,
        "max_seeds": max_seeds,
        "rates": {verdict: n / repetitions for verdict, n in counts.items()},
        "false": wrong / repetitions,
        "cost": float(np.mean([cost for _, cost in found])),
    }


def coverage(repetitions):
    """How often the interval of the order contains it: values that share a noisy reference."""
    generator, hits = np.random.default_rng(0), 0
    error = {ell: 0.3 / ell + 0.2 / ell**2 for ell in ELLS}
    order = math.log2(error[4.0] / error[8.0])
    for _ in range(repetitions):
        values = {ell: 1 + error[ell] + draw(generator, "normal", 0.02, 8) - 1 for ell in ELLS}
        interval = fit_errors(values, draw(generator, "normal", 0.02, 8)).order
        hits += interval.ci_low <= order <= interval.ci_high
    return hits / repetitions


def format_table(rows):
    """The rows as Markdown."""
    yield "| study | seeds | spread | truth | at most | verdicts | false | cost |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        verdicts = ", ".join(
            f"{100 * rate:.1f} {verdict}"
            for verdict, rate in sorted(row["rates"].items())
            if verdict != "inconclusive"
        )
        yield (
            f"| {row['study']} | {row['seeds']} | {100 * row['spread']:g} % | {row['truth']} | "
            f"{row['max_seeds']} | {verdicts or '-'} | {100 * row['false']:.1f} | "
            f"{row['cost']:.0f} |"
        )


def format_summary(rows):
    """Rates of the two conclusive verdicts by spread, for lognormal seeds, as Markdown."""
    spreads = " | ".join(f"{100 * spread:g} %" for spread in SPREADS)
    yield f"| study | truth | at most | {spreads} | false |"
    yield "|---" * (len(SPREADS) + 4) + "|"
    for study, (_, truths, _, numbers) in STUDIES.items():
        for truth, max_seeds in itertools.product(truths, numbers):
            key = (study, truth.name, max_seeds)
            same = [row for row in rows if (row["study"], row["truth"], row["max_seeds"]) == key]
            cells = " | ".join(
                " / ".join(f"{100 * row['rates'].get(word, 0):.0f}" for word in VERDICTS[study])
                for row in same
                if row["seeds"] == "lognormal"
            )
            false = 100 * max(row["false"] for row in same)
            yield f"| {study} | {truth.name} | {max_seeds} | {cells} | {false:.1f} |"


def main(argv=None):
    """Prints the table, and the settings with more than 5 % of false verdicts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.error_rates")
    parser.add_argument("--repetitions", type=int, default=400, help="studies for each row")
    parser.add_argument("--output", type=pathlib.Path, help="a JSON file for the rows")
    arguments = parser.parse_args(argv)
    settings = [
        (study, kind, spread, index, max_seeds, arguments.repetitions)
        for study, (_, truths, _, numbers) in STUDIES.items()
        for kind in KINDS
        for spread in SPREADS
        for index in range(len(truths))
        for max_seeds in numbers
    ]
    with concurrent.futures.ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(rates, settings))
    print(*format_table(rows), sep="\n")
    print("\nAgreement / difference shown, in percent, lognormal seeds; the largest rate of false")
    print("verdicts over all seeds and spreads:\n", *format_summary(rows), sep="\n")
    # Three standard errors of a rate of 5 %.
    allowed = 0.05 + 3 * math.sqrt(0.05 * 0.95 / arguments.repetitions)
    worst = [row for row in rows if row["false"] > allowed]
    print(f"\nFalse verdicts above 5 %: {len(worst)} of {len(rows)} settings.")
    print(*format_table(worst), sep="\n")
    covered = coverage(2000)
    print(f"\nThe interval of the order covers it in {100 * covered:.1f} % of 2,000 studies.")
    if arguments.output:
        arguments.output.write_text(json.dumps({"rows": rows, "order": covered}, indent=1))


if __name__ == "__main__":
    main()
