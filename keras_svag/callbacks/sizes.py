"""Times of growth and batch sizes of a `BatchSizeSchedule`, as the user gives them."""

from keras_svag._checks import as_list, one_of, positive_int

NOISE_SCALE = "noise_scale"


def check_times(at, policy, max_batch_size):
    """Returns `at` as a list, empty with a policy; raises unless one of both is given."""
    if (at is None) == (policy is None):
        raise ValueError(
            "Exactly one of `at` and `policy` must be given. "
            f"Received: at={at!r}, policy={policy!r}"
        )
    if policy is not None:
        one_of("policy", policy, (NOISE_SCALE,))
        if max_batch_size is None:
            raise ValueError(
                "`max_batch_size` must be an integer with `policy`. Received: max_batch_size=None."
            )
        return []
    times = [positive_int("at", time) for time in as_list(at)]
    if not times or sorted(set(times)) != times:
        raise ValueError(f"`at` must be increasing integers >= 1. Received: at={at!r}")
    return times


def batch_sizes(start, factor, limit, count):
    """Returns all batch sizes, the first one included; `count` growths, or as many as possible."""
    sizes = [start]
    while count is None or len(sizes) <= count:
        size = round(sizes[-1] * factor)
        size = size if limit is None else min(size, limit)
        if size <= sizes[-1]:
            break
        sizes.append(size)
    if len(sizes) == 1:
        raise ValueError(
            "`factor` and `max_batch_size` must let the batch grow by at least one example. "
            f"Received: start={start}, factor={factor}, max_batch_size={limit}"
        )
    return sizes
