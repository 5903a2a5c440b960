"""Cost of `BatchSizeAdvisor` in `fit`, for `SVAGModel` and for plain models."""

from benchmarks.sides import networks
from benchmarks.timing import compare, fit_side
from keras_svag.callbacks import BatchSizeAdvisor

PRERESNET = "preresnet"


def advisor(plan):
    """h: an ordinary fit with `BatchSizeAdvisor` against plain Keras on the same batches."""
    batch_size, count, options = (8, 2, {"depth": 8}) if plan.quick else (64, 8, {"depth": 14})
    data = networks.examples(PRERESNET, count * batch_size)
    ours, theirs = networks.advised(PRERESNET, **options), networks.plain(PRERESNET, **options)
    sides = (
        fit_side("with advisor", ours, data, batch_size, [BatchSizeAdvisor(verbose=0)]),
        fit_side("plain Keras", theirs, data, batch_size),
    )
    title = f"{networks.title(PRERESNET, batch_size // 2, **options)}, advisor in fit"
    return [compare("h", title, *sides, plan, target="<= 1.03")]


def noise_of_micro_batches(plan):
    """j: noise scale from accumulated gradients of plain Keras against the same fit without."""
    batch_size, steps = (8, 2) if plan.quick else (128, 4)
    settings = (
        [{"depth": 8}] if plan.quick else [{"depth": 14, "norm": n} for n in ("batch", "group")]
    )
    figures = []
    for options in settings:
        data = networks.examples(PRERESNET, 2 * batch_size)
        measured, without = (
            networks.plain(PRERESNET, gradient_accumulation_steps=steps, **options)
            for _ in range(2)
        )
        micro = batch_size // steps
        sides = (
            fit_side("measured", measured, data, micro, [BatchSizeAdvisor(verbose=0)]),
            fit_side("not measured", without, data, micro),
        )
        title = networks.title(PRERESNET, batch_size, **options)
        title = f"{title}, noise scale of {steps} micro-batches"
        figures.append(compare("j", title, *sides, plan, target="<= 1.03"))
    return figures
