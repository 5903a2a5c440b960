"""Learning-rate schedules over effective steps: those of the paper's experiments, and Keras' own.

Each function returns the schedule of one run: `learning_rate` is its maximum eta, `total` the
number of effective steps, and times are fractions of the run, so that the same arguments serve
every batch size and every `ell`.
"""

import math

import keras
from keras import ops

from keras_svag._checks import as_list, finite_float, one_line, positive_int

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule
# Of a quotient of float32: a few units in the last place.
ROUNDING = 4e-7


def constant(learning_rate, total):
    """Returns `learning_rate`."""
    del total
    return learning_rate


def step(learning_rate, total, decay_at=(0.8,), decay_factor=0.1):
    """Multiplies the rate by `decay_factor` at each of the increasing fractions `decay_at`."""
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
            "`decay_factor` must keep the learning rate finite. "
            f"Received: decay_factor={decay_factor}, {len(boundaries)} times"
        )
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def cosine(learning_rate, total, alpha=0.0):
    """Decays along half a cosine to `alpha * learning_rate`, `alpha` in [0, 1]."""
    return keras.optimizers.schedules.CosineDecay(learning_rate, total, alpha=_fraction(alpha))


def triangle(learning_rate, total, heights=(1.0, 0.5), alpha=0.0):
    """Rises and falls linearly, once for each of `heights`; see `Triangle`."""
    return Triangle(learning_rate, total, heights, alpha)


def keras_schedule(learning_rate, total, class_name, config, base_total):
    """Any class of `keras.optimizers.schedules`, times `learning_rate`."""
    # Steps in `config` are those of a run of `base_total` effective steps.
    schedules = keras.optimizers.schedules
    known = [name for name in dir(schedules) if isinstance(getattr(schedules, name), type)]
    known.remove("LearningRateSchedule")
    if class_name not in known:
        raise ValueError(
            f"`schedule.class_name` must be one of {', '.join(known)}. "
            f"Received: class_name={class_name!r}"
        )
    try:
        schedule = getattr(schedules, class_name)(**config)
    except TypeError as error:
        raise ValueError(
            f"`schedule.config` must hold the arguments of keras.optimizers.schedules.{class_name}."
            f" Received: config={dict(config)}. Keras says: {one_line(error)}"
        ) from error
    return ScaledSchedule(schedule, factor=learning_rate, time_scale=total / base_total)


def warm_up(schedule, total, fraction=0.0, factor=0.01, gradual=False):
    """Returns `schedule` with a warm-up over the first `fraction` of `total`; see `WarmUp`."""
    steps = _first_step_after(_fraction(fraction, "warm_up"), total)
    return WarmUp(schedule, steps, factor, gradual) if steps else schedule


@keras.saving.register_keras_serializable(package="keras_svag")
class Triangle(LearningRateSchedule):
    """Rises and falls linearly, in equal times, once for each of `heights`.

    Li, Malladi, Arora 2021 (arXiv 2102.12470, appendix) train SVAG under this schedule. A triangle
    rises from `alpha * height * learning_rate` to `height * learning_rate` and falls back; after
    `total_steps` the rate stays where the last one ends.
    """

    def __init__(self, learning_rate, total_steps, heights=(1.0, 0.5), alpha=0.0):
        super().__init__()
        self.learning_rate = float(learning_rate)
        self.total_steps = positive_int("total_steps", total_steps)
        self.heights = tuple(
            finite_float("heights", height, "numbers > 0", 0.0, exclusive=True)
            for height in as_list(heights)
        )
        if not self.heights:
            raise ValueError("`heights` must not be empty. Received: heights=()")
        self.alpha = _fraction(alpha)

    def __call__(self, step):
        """Returns the learning rate at a step, a scalar tensor."""
        length = self.total_steps / len(self.heights)
        step = ops.minimum(ops.cast(step, "float32"), float(self.total_steps))
        cycle = ops.minimum(ops.floor(step / length), len(self.heights) - 1.0)
        height = ops.take(ops.convert_to_tensor(self.heights, "float32"), ops.cast(cycle, "int32"))
        below_tip = ops.abs(2.0 * (step - cycle * length) / length - 1.0)
        fraction = (1.0 - self.alpha) * (1.0 - below_tip) + self.alpha
        return self.learning_rate * height * fraction

    def get_config(self):
        """Returns the arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "heights": self.heights,
            "alpha": self.alpha,
        }


class ScheduleWrapper(LearningRateSchedule):
    """Base class of schedules that modify another one, their first argument `schedule`."""

    def get_config(self):
        """Returns the serialized inner schedule; subclasses add their other arguments."""
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config):
        """Rebuilds the schedule from `get_config`."""
        inner = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**config | {"schedule": inner})


@keras.saving.register_keras_serializable(package="keras_svag")
class WarmUp(ScheduleWrapper):
    """Lowers a learning rate or a schedule during its first steps.

    The rate is multiplied by `factor` in all of these steps, as in the paper's code, or with
    `gradual` by a factor that grows linearly to 1 (Goyal et al. 2017, arXiv 1706.02677).
    """

    def __init__(self, schedule, steps, factor=0.01, gradual=False):
        super().__init__()
        self.schedule = schedule
        self.steps = positive_int("steps", steps)
        self.factor = finite_float("warm_up_factor", factor, "a number > 0", 0.0, exclusive=True)
        self.gradual = bool(gradual)

    def __call__(self, step):
        """Returns the learning rate at a step, a scalar tensor."""
        rate = self.schedule
        if isinstance(rate, LearningRateSchedule):
            rate = rate(step)
        rate = ops.cast(rate, "float32")
        done = ops.cast(step, "float32") / self.steps
        start = self.factor + (1.0 - self.factor) * done if self.gradual else self.factor
        return ops.where(done < 1.0, rate * start, rate)

    def get_config(self):
        """Returns the arguments."""
        own = {"steps": self.steps, "factor": self.factor, "gradual": self.gradual}
        return super().get_config() | own


@keras.saving.register_keras_serializable(package="keras_svag")
class ScaledSchedule(ScheduleWrapper):
    """A schedule scaled in value and in time.

    At step k it is `factor * schedule(floor(time + (k - step) / time_scale))`.
    `keras_svag.scale_optimizer` scales schedules with it: at kappa times the batch size an epoch
    has kappa times fewer steps, so `time_scale` is 1/kappa. It can be saved with the optimizer or
    model.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`.
        factor: Float > 0 that multiplies the learning rate. Defaults to `1.0`.
        time_scale: Float > 0 that multiplies the steps. Defaults to `1.0`.
        step: Int >= 0, the step at which these scales begin to hold, in the middle of a run.
            Defaults to `0`.
        time: Float >= 0, the step of `schedule` that belongs to `step`. Defaults to `0.0`.

    Raises:
        ValueError: If an argument is not of that kind.

    Example:

    >>> cosine = keras.optimizers.schedules.CosineDecay(0.1, decay_steps=1000)
    >>> scaled = ScaledSchedule(cosine, factor=4.0, time_scale=0.25)
    >>> float(scaled(125)) == 4 * float(cosine(500))
    True
    """

    def __init__(self, schedule, factor=1.0, time_scale=1.0, step=0, time=0.0):
        super().__init__()
        if not isinstance(schedule, LearningRateSchedule):
            raise ValueError(
                "`schedule` must be a keras.optimizers.schedules.LearningRateSchedule. "
                f"Received: schedule={schedule!r}"
            )
        self.schedule = schedule
        self.factor = finite_float("factor", factor, "a number > 0", 0.0, exclusive=True)
        self.time_scale = finite_float(
            "time_scale", time_scale, "a number > 0", 0.0, exclusive=True
        )
        self.step = positive_int("step", step, minimum=0)
        self.time = finite_float("time", time, "a number >= 0", 0.0)

    def __call__(self, step):
        """Returns the learning rate at a step, a scalar tensor."""
        # In float32 a quotient may end just below the whole number that it is.
        since = ops.cast(ops.cast(step, "int32") - self.step, "float32")
        whole = math.floor(self.time + 1e-6)
        fraction = max(self.time - whole, 0.0)
        inner = ops.floor(since / self.time_scale * (1.0 + ROUNDING) + fraction)
        # A new optimizer of this schedule begins before `step`, but no schedule before its own 0.
        return self.factor * self.schedule(ops.maximum(ops.cast(inner, "int32") + whole, 0))

    def time_at(self, step):
        """Returns the step of the inner schedule that belongs to `step`, as a float."""
        return self.time + (step - self.step) / self.time_scale

    def get_config(self):
        """Returns the arguments."""
        own = {"factor": self.factor, "time_scale": self.time_scale}
        # Only where they are needed: a schedule from the beginning keeps its identity in studies.
        moved = {"step": self.step, "time": self.time} if self.step or self.time else {}
        return super().get_config() | own | moved


def scale_schedule(schedule, factor, time_scale=1.0):
    """Returns a `ScaledSchedule`, not nested in another one."""
    old = _as_scaled(schedule)
    step = round(old.step * time_scale)
    time_scale *= old.time_scale
    return ScaledSchedule(old.schedule, factor * old.factor, time_scale, step, old.time)


def continue_schedule(schedule, factor, time_scale, step):
    """Returns a `ScaledSchedule` that goes on from `step` on, scaled in value and speed."""
    old = _as_scaled(schedule)
    factor, time_scale = factor * old.factor, time_scale * old.time_scale
    return ScaledSchedule(old.schedule, factor, time_scale, step, old.time_at(step))


def _as_scaled(schedule):
    return schedule if type(schedule) is ScaledSchedule else ScaledSchedule(schedule)


def increasing_fractions(name, values):
    """Returns a number or a list of numbers as a list; raises unless they increase in [0, 1]."""
    values = [finite_float(name, value, "fractions in [0, 1]", 0.0) for value in as_list(values)]
    if sorted(set(values)) != values or (values and values[-1] > 1):
        raise ValueError(
            f"`{name}` must be increasing fractions of the run, in [0, 1]. "
            f"Received: {name}={values}"
        )
    return values


def _first_step_after(fraction, total):
    # The first step that lies wholly beyond the fraction; rounded, since 0.55 * 100 > 55.
    return math.ceil(round(fraction * total, 6))


def _fraction(value, name="alpha"):
    number = finite_float(name, value, "a number in [0, 1]", 0.0)
    if number > 1:
        raise ValueError(f"`{name}` must be a number in [0, 1]. Received: {name}={value}")
    return number


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "keras": keras_schedule,
    "step": step,
    "triangle": triangle,
}
# Passed by the study, not by its config.
RESERVED_SCHEDULE_ARGUMENTS = ("learning_rate", "total", "base_total")
