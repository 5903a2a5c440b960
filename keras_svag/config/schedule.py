"""The learning-rate schedule of a config."""

import inspect

from keras_svag._checks import one_of, reject_unknown
from keras_svag.schedules import RESERVED_SCHEDULE_ARGUMENTS, SCHEDULES, warm_up

WARM_UP = {"warm_up": "fraction", "warm_up_factor": "factor", "warm_up_gradual": "gradual"}
# Any number of steps shows if a schedule can be built.
_SOME_STEPS = 1000


def validate_schedule(fields):
    """Returns the checked `schedule` fields, without those unset or of another schedule."""
    if "name" not in fields:
        raise ValueError(
            "`schedule.name` must be given: one of "
            f"{', '.join(SCHEDULES)}. Received: schedule={fields!r}"
        )
    one_of("schedule.name", fields["name"], SCHEDULES)
    known = {
        name: ["name", *_arguments(function), *WARM_UP] for name, function in SCHEDULES.items()
    }
    # Fields of the other schedules are allowed, so that changing the name alone is enough.
    reject_unknown("schedule.", fields, sorted(set().union(*known.values())), "any schedule")
    fields = {k: v for k, v in fields.items() if v is not None and k in known[fields["name"]]}
    try:
        build_schedule(fields, 1.0, _SOME_STEPS, _SOME_STEPS)
    except TypeError as error:
        raise ValueError(
            f"`schedule` must have all fields of schedule {fields['name']!r}. "
            f"Received: schedule={fields!r} ({error})"
        ) from error
    return fields


def _arguments(function):
    return [
        a for a in inspect.signature(function).parameters if a not in RESERVED_SCHEDULE_ARGUMENTS
    ]


def build_schedule(fields, learning_rate, total, base_total):
    """Returns the schedule of a run of `total` effective steps, as a float or a Keras schedule."""
    options = {k: v for k, v in fields.items() if k != "name" and k not in WARM_UP}
    if fields["name"] == "keras":
        options["base_total"] = base_total
    schedule = SCHEDULES[fields["name"]](learning_rate, total, **options)
    lowered = {WARM_UP[name]: fields[name] for name in WARM_UP if name in fields}
    return warm_up(schedule, total, **lowered)
