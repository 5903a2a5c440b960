"""What N and G of the base runs say of the largest kappa, before any other run begins."""

import math

from keras_svag import theory
from keras_svag.engine.files import records


def predict(study, base):
    """The dict of `prediction.json`.

    Args:
        study: a `LinearScaling`.
        base: the `Cell` of the base batch size.

    Returns:
        A dict.
    """
    noise, signal = base.column("bound_noise"), base.column("bound_signal")
    nothing = theory.Interval(math.nan, -math.inf, math.inf)
    return {
        "study": study.name,
        "closeness": study.closeness,
        "base_batch_size": base.batch_size,
        "predicted_max_kappa": {
            form: theory.lsr_max_kappa(noise, signal, study.closeness, form) if noise else nothing
            for form in (theory.TIGHT, theory.PAPER)
        },
        "noise_to_signal": theory.ratio_of_means(noise, signal) if noise else nothing,
        "window": base.window.fractions,
        "runs": base.column("name"),
    }


def write_prediction(workdir, prediction):
    """Writes `prediction.json`, or leaves it alone where it says the same already."""
    path = workdir / "prediction.json"
    if records.read_json(path) != records.to_json(prediction):
        records.write_json(path, prediction)
