"""What the tests of the studies share."""

import contextlib
import os
import pathlib

from configs.digits import get_config
from keras_svag.config import build_study


def study_config(**changes):
    """The quick config with one batch size (22 effective steps) and four checkpoints a run."""
    config = get_config("quick").to_dict()
    config["num_checkpoints"] = 4  # after records 3, 6, 9 and 10
    config["sde_validity"] = {"batch_sizes": [128], "ells": [1.0, 2.0, 4.0]}
    return config | changes


def build(config, name="sde_validity"):
    """The study of a config."""
    return build_study(config, name)[0]


def run_study(config, name, workdir, command=("python", "study.py")):
    """Runs the study of a config; returns its `Result`."""
    study, num_workers = build_study(config, name)
    return study.run(workdir, num_workers, show_progress=False, command=list(command))


def files_of(folder, *ignored):
    """Bytes of each file under a folder, by its path in it."""
    folder = pathlib.Path(folder)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if name not in ignored}


@contextlib.contextmanager
def read_only(folder):
    """A folder that this process may not write to, also where it runs as root."""
    os.chmod(folder, 0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)  # nobody
        yield
    finally:
        os.seteuid(user)
        os.chmod(folder, 0o755)
