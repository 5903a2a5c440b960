"""One run with everything: any model, data set and optimizer of the package, any ell, schedule."""

import dataclasses

from keras_svag.study import records, runs
from keras_svag.study.config import TRAIN, validate_config
from keras_svag.study.grid import (
    announce_cost,
    check_buildable,
    execute_grid,
    load_dataset_of,
    make_run,
)
from keras_svag.study.pool import RunPool
from keras_svag.study.workdir import begin

STUDY = TRAIN
MODEL_FILE = "model.keras"
# Columns of a record that sum up a run, in the order in which they are told.
TOLD = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "weight_norm")
MEASURED = ("gradient_noise", "gradient_signal", "noise_to_signal")


def run_training(config, workdir, command=None, show_progress=True):
    """Trains one network, or goes on with it.

    Leaves `config.json`, `environment.json`, `result.json` and `runs/<name>/` with the records
    (`metrics.jsonl`, `tensorboard/`), the last checkpoint and the trained network `model.keras`, a
    plain Keras model that needs no keras_svag to be loaded.

    Args:
        config: nested dict or `ConfigDict`, such as `configs/digits.py` gives; `train.ell` and
            `train.batch_size` are those of the run, `seed` is its seed.
        workdir: folder for all files.
        command: list of strings, the command to keep. Defaults to that of this process.
        show_progress: whether to show a progress bar. Defaults to `True`.

    Returns:
        The dict that stands in `result.json`: cell, status and, of a run that did not diverge, its
        last record.

    Raises:
        ValueError: if the config is wrong or `workdir` belongs to another one.
    """
    config = validate_config(config, STUDY)
    dataset = load_dataset_of(config["dataset"])
    run = build_run(config, dataset.num_train)
    check_buildable(config, dataset, [run])
    workdir, _ = begin(workdir, STUDY, config, dataset, command)
    announce_cost([run], dataset.num_train, workdir, show_progress)
    # One run is one program, which uses the whole machine by itself.
    with RunPool(config, lambda: dataset, workdir, num_workers=1) as pool:
        result = execute_grid(pool, [run], dataset.num_train, workdir, show_progress)[run.name]
        folder = runs.RunFolder(workdir, run.name)
        if result["status"] == runs.DONE:
            pool.save_network(run, folder.path / MODEL_FILE)
            result = {**result, "last_record": records.read_jsonl(folder.metrics)[-1]}
    records.write_json(workdir / "result.json", result)
    return result


def build_run(config, num_train):
    """The run that a config asks for.

    Args:
        config: a validated config.
        num_train: n, number of training examples.

    Returns:
        A `Run`.
    """
    return make_run(config, num_train, config[STUDY]["batch_size"], config[STUDY]["ell"])


def format_result(result):
    """What the trainer prints at its end.

    Args:
        result: the dict of `run_training`.

    Returns:
        A string of several lines.
    """
    fields = [f.name for f in dataclasses.fields(runs.Run)]
    lines = [", ".join(f"{name}={result[name]}" for name in fields if name != "seed")]
    if result["status"] == runs.FAILED:
        return "\n".join([*lines, result["message"]])
    last = result["last_record"]
    for name in (*TOLD, *MEASURED):
        if last.get(name) is not None:
            lines.append(f"{name:>16}  {last[name]:.5g}")
    return "\n".join(lines)
