"""Learning-rate schedules in effective time: those of the paper's experiments, and any of Keras.

Each function gives the schedule of one run: `learning_rate` is eta at its height, `total` the
effective steps of the run, and places in the run are fractions of it, so that one description
serves every batch size and every `ell`. `keras_svag.SVAG` evaluates schedules at effective steps.
"""

import math

import keras
from keras import ops

from keras_svag._checks import finite_float, positive_int

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule


def constant(learning_rate, total):
    """The same learning rate all the time.

    Args:
        learning_rate: eta.
        total: effective steps of the run; not used.

    Returns:
        The learning rate itself.
    """
    del total
    return learning_rate


def step(learning_rate, total, decay_at=(0.8,), decay_factor=0.1):
    """A learning rate that is multiplied by a factor at given points of the run.

    Args:
        learning_rate: eta at the start.
        total: effective steps of the run.
        decay_at: increasing fractions of the run. Defaults to `(0.8,)`.
        decay_factor: what the rate is multiplied by at each. Defaults to `0.1`.

    Returns:
        A float, or a Keras schedule.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> schedule = step(0.2, total=10, decay_at=(0.5,))
    >>> [round(float(schedule(i)), 6) for i in (4, 5)]
    [0.2, 0.02]
    """
    factor = finite_float("decay_factor", decay_factor, "a number > 0", 0.0, exclusive=True)
    decay_at = increasing_fractions("decay_at", decay_at)
    if not decay_at:
        return learning_rate
    # Keras keeps a value up to and including its boundary.
    boundaries = [_first_step_after(fraction, total) - 1 for fraction in decay_at]
    try:
        values = [learning_rate * factor**i for i in range(len(boundaries) + 1)]
    except OverflowError:
        values = [math.inf]
    if not math.isfinite(values[-1]):
        raise ValueError(
            "`decay_factor` must leave the learning rate finite. "
            f"Received: decay_factor={decay_factor}, {len(boundaries)} times"
        )
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def cosine(learning_rate, total, alpha=0.0):
    """Half a cosine from `learning_rate` down to `alpha * learning_rate` at the end of the run.

    Args:
        learning_rate: eta at the start.
        total: effective steps of the run.
        alpha: where it ends, as a share of `learning_rate`, in [0, 1]. Defaults to `0.0`.

    Returns:
        A Keras schedule.

    Raises:
        ValueError: if `alpha` is out of range.
    """
    return keras.optimizers.schedules.CosineDecay(learning_rate, total, alpha=_share(alpha))


def triangle(learning_rate, total, heights=(1.0, 0.5), alpha=0.0):
    """Triangles of equal length, one after the other; see `Triangle`.

    Args:
        learning_rate: eta at the tip of a triangle of height 1.
        total: effective steps of the run.
        heights: heights of the triangles. Defaults to `(1.0, 0.5)`, those of the paper.
        alpha: their foot, as a share of their tip, in [0, 1]. Defaults to `0.0`.

    Returns:
        A Keras schedule.

    Raises:
        ValueError: if an argument is out of range.
    """
    return Triangle(learning_rate, total, heights, alpha)


def keras_schedule(learning_rate, total, class_name, config, base_total):
    """Any schedule of `keras.optimizers.schedules`, as a factor on `learning_rate`.

    Args:
        learning_rate: eta; what the schedule gives is multiplied by it, so let that begin at 1.
        total: effective steps of the run.
        class_name: name of the class, such as `"ExponentialDecay"`.
        config: dict of its arguments; numbers of steps mean effective steps of a run of
            `base_total`, and are stretched to this one.
        base_total: effective steps of the run at the base batch size.

    Returns:
        A Keras schedule.

    Raises:
        ValueError: if there is no such class, or it does not take these arguments.
    """
    schedules = keras.optimizers.schedules
    known = [name for name in dir(schedules) if isinstance(getattr(schedules, name), type)]
    known.remove("LearningRateSchedule")
    if class_name not in known:
        raise ValueError(
            f"`schedule.class_name` must be one of {', '.join(known)}. "
            f"Received: class_name={class_name!r}"
        )
    try:
        inner = getattr(schedules, class_name)(**config)
    except TypeError as error:
        raise ValueError(
            f"`schedule.config` must hold the arguments of keras.optimizers.schedules.{class_name}"
            f". Received: config={dict(config)}, which it refuses: {error}"
        ) from error
    return Stretched(inner, factor=learning_rate, stretch=total / base_total)


def warm_up(schedule, total, fraction=0.0, factor=0.01, gradual=False):
    """A schedule whose first part is lowered; see `WarmUp`.

    Args:
        schedule: a float or a Keras schedule.
        total: effective steps of the run.
        fraction: length of the warm-up as a share of the run, in [0, 1]. Defaults to `0.0`: none.
        factor: what the rate is multiplied by at the start. Defaults to `0.01`.
        gradual: whether the factor grows to 1 or jumps there. Defaults to `False`.

    Returns:
        A float or a Keras schedule.

    Raises:
        ValueError: if an argument is out of range.
    """
    fraction = finite_float("warm_up", fraction, "a fraction of the run, in [0, 1]", 0.0)
    if fraction > 1:
        raise ValueError(
            f"`warm_up` must be a fraction of the run, in [0, 1]. Received: warm_up={fraction}"
        )
    steps = _first_step_after(fraction, total)
    return WarmUp(schedule, steps, factor, gradual) if steps else schedule


@keras.saving.register_keras_serializable(package="keras_svag")
class Triangle(LearningRateSchedule):
    """Learning rate that rises and falls linearly, once for each of `heights`.

    Li, Malladi, Arora 2021 (arXiv 2102.12470) train SVAG under this schedule with heights 1 and
    0.5 (appendix; "triangle learning rate schedule").

    Args:
        learning_rate: float, the rate at the tip of a triangle of height 1.
        total_steps: int, steps of the whole schedule; each triangle takes an equal part. After it
            the rate stays at the foot of the last one.
        heights: heights of the triangles, as a share of `learning_rate`.
            Defaults to `(1.0, 0.5)`.
        alpha: foot of a triangle as a share of its tip, in [0, 1]. Defaults to `0.0`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> schedule = Triangle(0.8, total_steps=8)
    >>> [round(float(schedule(i)), 3) for i in range(9)]
    [0.0, 0.4, 0.8, 0.4, 0.0, 0.2, 0.4, 0.2, 0.0]
    """

    def __init__(self, learning_rate, total_steps, heights=(1.0, 0.5), alpha=0.0):
        super().__init__()
        self.learning_rate = float(learning_rate)
        self.total_steps = positive_int("total_steps", total_steps)
        self.heights = tuple(
            finite_float("heights", height, "numbers > 0", 0.0, exclusive=True)
            for height in (heights if isinstance(heights, (list, tuple)) else (heights,))
        )
        if not self.heights:
            raise ValueError("`heights` must not be empty. Received: heights=()")
        self.alpha = _share(alpha)

    def __call__(self, step):
        """Learning rate at a step, a scalar."""
        length = self.total_steps / len(self.heights)
        step = ops.minimum(ops.cast(step, "float32"), float(self.total_steps))
        cycle = ops.minimum(ops.floor(step / length), len(self.heights) - 1.0)
        height = ops.take(ops.convert_to_tensor(self.heights, "float32"), ops.cast(cycle, "int32"))
        below_tip = ops.abs(2.0 * (step - cycle * length) / length - 1.0)
        share = (1.0 - self.alpha) * (1.0 - below_tip) + self.alpha
        return self.learning_rate * height * share

    def get_config(self):
        """The arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "heights": self.heights,
            "alpha": self.alpha,
        }


class Wrapping(LearningRateSchedule):
    """What schedules share that change another one, `schedule`, the first of their arguments."""

    def get_config(self):
        """The inner schedule, serialised; subclasses add the other arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the schedule from `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": inner})


@keras.saving.register_keras_serializable(package="keras_svag")
class WarmUp(Wrapping):
    """Another schedule, lowered during its first steps.

    Args:
        schedule: a float or a Keras schedule, which sees the same step.
        steps: int > 0, length of the warm-up.
        factor: what the rate is multiplied by at the start, > 0. Defaults to `0.01`.
        gradual: if `False` the factor holds for all of these steps, as in the paper's code; if
            `True` it grows linearly to 1 (Goyal et al. 2017, arXiv 1706.02677).
            Defaults to `False`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> schedule = WarmUp(0.8, steps=2, factor=0.1)
    >>> [round(float(schedule(i)), 3) for i in range(3)]
    [0.08, 0.08, 0.8]
    """

    def __init__(self, schedule, steps, factor=0.01, gradual=False):
        super().__init__()
        self.schedule = schedule
        self.steps = positive_int("steps", steps)
        self.factor = finite_float("warm_up_factor", factor, "a number > 0", 0.0, exclusive=True)
        self.gradual = bool(gradual)

    def __call__(self, step):
        """Learning rate at a step, a scalar."""
        rate = self.schedule
        if isinstance(rate, LearningRateSchedule):
            rate = rate(step)
        rate = ops.cast(rate, "float32")
        done = ops.cast(step, "float32") / self.steps
        start = self.factor + (1.0 - self.factor) * done if self.gradual else self.factor
        return ops.where(done < 1.0, rate * start, rate)

    def get_config(self):
        """The arguments."""
        return {
            **super().get_config(),
            "steps": self.steps,
            "factor": self.factor,
            "gradual": self.gradual,
        }


@keras.saving.register_keras_serializable(package="keras_svag")
class Stretched(Wrapping):
    """Another schedule in slower or faster time, times a factor.

    Args:
        schedule: a Keras schedule.
        factor: float.
        stretch: float > 0; the other schedule sees `floor(step / stretch)`.
    """

    def __init__(self, schedule, factor=1.0, stretch=1.0):
        super().__init__()
        self.schedule = schedule
        self.factor = float(factor)
        self.stretch = finite_float("stretch", stretch, "a number > 0", 0.0, exclusive=True)

    def __call__(self, step):
        """Learning rate at a step, a scalar."""
        inner = ops.floor(ops.cast(step, "float32") / self.stretch)
        return self.factor * self.schedule(ops.cast(inner, "int32"))

    def get_config(self):
        """The arguments."""
        return {
            **super().get_config(),
            "factor": self.factor,
            "stretch": self.stretch,
        }


def increasing_fractions(name, values):
    """Checks increasing fractions of a run.

    Args:
        name: name of the argument, for the error.
        values: a number, or a list or tuple of numbers.

    Returns:
        A list of floats.

    Raises:
        ValueError: if they are not increasing numbers in [0, 1].
    """
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    values = [finite_float(name, value, "fractions in [0, 1]", 0.0) for value in values]
    if sorted(set(values)) != values or (values and values[-1] > 1):
        raise ValueError(
            f"`{name}` must be increasing fractions of the run, in [0, 1]. "
            f"Received: {name}={values}"
        )
    return values


def _first_step_after(fraction, total):
    """First step that lies wholly beyond a fraction of the run; rounded, for 0.55 * 100 > 55."""
    return math.ceil(round(fraction * total, 6))


def _share(alpha):
    alpha = finite_float("alpha", alpha, "a number in [0, 1]", 0.0)
    if alpha > 1:
        raise ValueError(f"`alpha` must be a number in [0, 1]. Received: alpha={alpha}")
    return alpha


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "keras": keras_schedule,
    "step": step,
    "triangle": triangle,
}
# Given by the study, not by its config.
RESERVED_SCHEDULE_ARGUMENTS = ("learning_rate", "total", "base_total")
