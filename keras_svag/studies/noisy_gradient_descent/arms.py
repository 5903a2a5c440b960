"""The arms of the study: the methods to compare at each batch size, each with its runs."""

from keras_svag.engine.spec import GAUSSIAN, SECOND_MOMENT, SVAG, RunSpec


def build_arms(study):
    """Returns a list of dicts with a `method`, its `noise_steps` per effective step and `specs`."""
    facts, arms = study.facts, []
    for batch_size in study.batch_sizes:
        total = facts.steps_at(batch_size)
        for m in study.noise_steps:
            methods = {
                "SGD" if m == 1 else f"SVAG({m:g})": (batch_size, m, total, SVAG),
                "NGD" if m == 1 else f"Gaussian({m:g})": (batch_size, m, total, GAUSSIAN),
            }
            if m > 1 and batch_size % m == 0:
                methods[f"SGD(B/{m:g})"] = (int(batch_size // m), 1.0, round(total * m), SVAG)
            if m > 1 and study.second_moment:
                methods[f"SecondMoment({m:g})"] = (batch_size, m, total, SECOND_MOMENT)
            for name, (size, ell, steps, kind) in methods.items():
                rate = facts.learning_rate_at(size)
                arms.append(
                    {
                        # Of the SGD run that is modeled, not of a smaller batch.
                        "batch_size": batch_size,
                        "learning_rate": facts.learning_rate_at(batch_size),
                        "noise_steps": m,
                        "method": name,
                        "specs": [
                            RunSpec(size, rate, float(ell), seed, steps, kind)
                            for seed in range(study.num_seeds)
                        ],
                    }
                )
    return arms


def attach_rows(study, table):
    """Returns the arms with the `rows` of the table that belong to each."""
    by_name = {row["name"]: row for row in table}
    return [
        {**arm, "rows": [by_name[s.name] for s in arm["specs"] if s.name in by_name]}
        for arm in build_arms(study)
    ]
