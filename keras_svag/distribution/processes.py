"""Functions on which the processes of a `multi_worker` run agree."""

import json

from keras_svag._json import to_json
from keras_svag.distribution.placement import backend


def is_chief():
    """Returns True if this process is the first one, which writes the files."""
    return backend.process_index() == 0


def num_processes():
    """Returns the number of processes that train together."""
    return backend.num_processes()


def gather(values):
    """Returns the integers, or lists of them, of all processes; each waits here for all others."""
    return backend.gather(values)


def max_over_processes(value):
    """Returns the largest of the integers of all processes; each waits here for all others."""
    if backend.num_processes() == 1:
        return value
    return max(backend.gather(int(value)))


def check_same_on_all(what, describe):
    """Raises a `ValueError` unless `describe()`, nested dicts, is the same on all processes."""
    if backend.num_processes() == 1:
        return
    texts = _gather_texts(json.dumps(to_json(describe()), sort_keys=True))
    others = [text for text in texts if text != texts[0]]
    if not others:
        return
    first, other = (_flatten(json.loads(text)) for text in (texts[0], others[0]))
    changed = [
        f"{name}={first.get(name)!r} in one process and {other.get(name)!r} in another"
        for name in sorted(first.keys() | other.keys())
        if first.get(name) != other.get(name)
    ]
    raise ValueError(
        f"`strategy` 'multi_worker' must have the same {what} in all processes. Received: "
        f"{'; '.join(changed)}. Start all processes with the same command and files."
    )


def _gather_texts(text):
    content = text.encode()
    lengths = backend.gather(len(content))
    padded = list(content) + [0] * (max(lengths) - len(content))
    rows = backend.gather(padded)
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths)]


def _flatten(value, prefix=""):
    if not isinstance(value, dict):
        return {prefix: value}
    flat = {}
    for name, item in value.items():
        flat |= _flatten(item, f"{prefix}.{name}" if prefix else name)
    return flat
