"""The methods to compare at each batch size, each with its runs."""

from keras_svag.engine.spec import GAUSSIAN, SVAG, RunSpec


def build_arms(study):
    """The methods to compare.

    Args:
        study: a `NoisyGradientDescent`.

    Returns:
        A list of dicts with `batch_size` and `learning_rate` (of the SGD run that is modelled),
        `noise_steps` (steps per effective step), `method` (its name) and `specs`.
    """
    facts, arms = study.facts, []
    for batch_size in study.batch_sizes:
        total = facts.steps_at(batch_size)
        for m in study.noise_steps:
            methods = {
                "SGD" if m == 1 else f"SVAG({m:g})": (batch_size, m, total, SVAG),
                "NGD" if m == 1 else f"Gaussian({m:g})": (batch_size, m, total, GAUSSIAN),
            }
            if m > 1 and batch_size % m == 0:
                small = int(batch_size // m)
                methods[f"SGD(B/{m:g})"] = (small, 1.0, round(total * m), SVAG)
            for name, (size, ell, length, method) in methods.items():
                rate = facts.learning_rate_at(size)
                arms.append(
                    {
                        "batch_size": batch_size,
                        "learning_rate": facts.learning_rate_at(batch_size),
                        "noise_steps": m,
                        "method": name,
                        "specs": [
                            RunSpec(size, rate, float(ell), seed, length, method)
                            for seed in range(study.num_seeds)
                        ],
                    }
                )
    return arms


def with_rows(study, table):
    """The methods of `build_arms` with the `rows` of the table that are theirs."""
    by_name = {row["name"]: row for row in table}
    return [
        {**arm, "rows": [by_name[s.name] for s in arm["specs"] if s.name in by_name]}
        for arm in build_arms(study)
    ]
