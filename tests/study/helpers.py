"""What the tests of the study share."""

import pathlib

from configs.digits import get_config


def study_config(**changes):
    """The quick config with one batch size (22 effective steps) and four checkpoints a run."""
    config = get_config("quick").to_dict()
    config["num_checkpoints"] = 4  # after records 3, 6, 9 and 10
    config["sde_validity"] = {"batch_sizes": [128], "ells": [1.0, 2.0, 4.0]}
    return config | changes


def files_of(folder, *ignored):
    """Bytes of each file under a folder, by its path in it."""
    folder = pathlib.Path(folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if name not in ignored}


class Interrupted(Exception):
    """Stands for whatever ends a process in the middle of a run."""


def interrupt_after(count):
    """An `on_steps` that raises `Interrupted` at its call number `count` (0 is the start)."""
    calls = iter(range(count + 1))

    def on_steps(_):
        if next(calls) == count:
            raise Interrupted

    return on_steps
