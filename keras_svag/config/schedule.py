"""The learning-rate schedule that a config names."""

import inspect

from keras_svag._checks import one_of, reject_unknown
from keras_svag.schedules import RESERVED_SCHEDULE_ARGUMENTS, SCHEDULES, warm_up

WARM_UP = {"warm_up": "fraction", "warm_up_factor": "factor", "warm_up_gradual": "gradual"}
# Any number of steps will do to see whether a schedule can be built.
_SOME_STEPS = 1000


def validate_schedule(fields):
    """Checks the `schedule` part of a config.

    Args:
        fields: dict with `name`, one of `keras_svag.schedules.SCHEDULES`, the arguments of that
            function, and those of a warm-up: `warm_up` (fraction of the run), `warm_up_factor`,
            `warm_up_gradual`. Arguments of the other schedules may stand there, so that the name
            alone can be changed.

    Returns:
        The dict without what is `None` or of another schedule.

    Raises:
        ValueError: naming the field, what was expected, and what was received.
    """
    if "name" not in fields:
        raise ValueError(
            "`schedule.name` must be given: one of "
            f"{', '.join(SCHEDULES)}. Received: schedule={fields!r}"
        )
    one_of("schedule.name", fields["name"], SCHEDULES)
    known = {
        name: ["name", *_arguments(function), *WARM_UP] for name, function in SCHEDULES.items()
    }
    reject_unknown("schedule.", fields, sorted(set().union(*known.values())), "any schedule")
    fields = {k: v for k, v in fields.items() if v is not None and k in known[fields["name"]]}
    try:
        build_schedule(fields, 1.0, _SOME_STEPS, _SOME_STEPS)
    except TypeError as error:
        raise ValueError(
            f"`schedule` must have the fields that schedule {fields['name']!r} needs. "
            f"Received: schedule={fields!r} ({error})"
        ) from error
    return fields


def _arguments(function):
    return [
        a for a in inspect.signature(function).parameters if a not in RESERVED_SCHEDULE_ARGUMENTS
    ]


def build_schedule(fields, learning_rate, total, base_total):
    """The learning rate over effective steps.

    Args:
        fields: the `schedule` part of a config.
        learning_rate: eta at its height.
        total: effective steps of the run.
        base_total: effective steps of a run at the base batch size.

    Returns:
        A float, or a Keras schedule.
    """
    options = {k: v for k, v in fields.items() if k != "name" and k not in WARM_UP}
    if fields["name"] == "keras":
        options["base_total"] = base_total
    schedule = SCHEDULES[fields["name"]](learning_rate, total, **options)
    lowered = {WARM_UP[name]: fields[name] for name in WARM_UP if name in fields}
    return warm_up(schedule, total, **lowered)
