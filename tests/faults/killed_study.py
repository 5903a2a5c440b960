"""A study that kills its own process at a given moment, as nothing but SIGKILL can.

    python -m tests.faults.killed_study WORKDIR CHANGES KIND NUMBER

`CHANGES` are fields of the config, in JSON. `KIND` is the moment:

- `time`: this process prints "training" after its first steps and is killed by who started it;
- `write`: in the middle of writing checkpoint number `NUMBER` of this process;
- `rename`: before the file of rename number `NUMBER` of this process takes its place, whatever file
  that is (checkpoints take two: the old one goes aside first);
- `never`;
- `note`: not killed, but the file `NUMBER` gets a line for each run that this process trains.
"""

import itertools
import json
import os
import signal
import sys

from keras_svag.config import build_study
from keras_svag.device_loop import limit_threads
from keras_svag.engine import execution
from keras_svag.engine.files import checkpoints, storage
from keras_svag.engine.progress import Progress
from tests.studies.helpers import study_config


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_write(number):
    write, count = storage.files.write, itertools.count(1)

    def half(path, content):
        if not path.name.endswith(checkpoints.LATEST) or next(count) < number:
            return write(path, content)
        write(path, content[: len(content) // 2])
        kill()

    storage.files.write = half


def kill_before_rename(number):
    replace, count = os.replace, itertools.count(1)

    def wait(*arguments):
        if next(count) == number:
            kill()
        replace(*arguments)

    os.replace = wait


def tell_when_training():
    advance, told = Progress.advance, []

    def tell(self, run, steps):
        advance(self, run, steps)
        if steps and self._steps_left[run] and not told:
            told.append(True)
            print("training", flush=True)

    Progress.advance = tell


def note_runs(path):
    finish = execution.finish

    def note(state, *arguments):
        with open(path, "a") as file:
            file.write(f"{state.spec.name}\n")
        return finish(state, *arguments)

    execution.finish = note


def main(workdir, changes, kind, number):
    """Runs the study."""
    changes = json.loads(changes)
    if changes.pop("one_thread", False):
        # As in worker processes: sums in the same order, however many cores there are.
        limit_threads(1)
    if kind == "note":
        note_runs(number)
    if kind == "write":
        kill_in_write(int(number))
    elif kind == "rename":
        kill_before_rename(int(number))
    tell_when_training()
    study, num_workers = build_study(study_config(**changes), "sde_validity")
    study.run(workdir, num_workers, command=["study"])
    print("finished", flush=True)


if __name__ == "__main__":  # worker processes import this file too
    main(*sys.argv[1:])
