"""Prices the experiments of docs/experiments.md in chip-hours of TPUs that are not there.

    pip install -e ".[jax,tpu-compile]"
    python -m benchmarks.prices                   # adds what docs/accelerator/prices.json lacks
    python -m benchmarks.prices --only=svag_convergence --topologies=v5e:1x1
    python -m docs.build_accelerator              # writes the tables

Data are stand-ins of the same shapes. A network is compiled once for each topology, method and
batch size, for 10 classes also where there are 100; docs/tpu.md explains the figures.
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import re
import sys
import unittest.mock

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "accelerator" / "prices.json"
COMMAND = re.compile(r"`python -m trainers\.(\w+) --config=configs/(\w+)\.py:(\S+) --workdir=W`")
TOPOLOGIES = ("v5e:1x1", "v5e:2x4", "v6e:2x4")
SIZES = {"cifar10": (50_000, 10), "cifar100": (50_000, 100), "svhn_cropped": (73_257, 10)}
KEYS = ("study", "data", "arguments", "topology")


def experiments():
    """Returns `(study, config file, arguments)` of each command on the page."""
    return COMMAND.findall((ROOT / "docs" / "experiments.md").read_text("utf-8"))


def stand_in(name, data_dir=None):
    """Returns black images, as many as a data set has, with labels of all its classes."""
    from keras_svag.datasets import Dataset

    count, classes = SIZES[name]
    x, y = np.zeros((count, 32, 32, 3), np.uint8), np.arange(count) % classes
    return Dataset(name, x, y, x[:classes], y[:classes], classes)


def build(study, data, arguments):
    """Returns the study of a command, on a stand-in for its data."""
    from keras_svag.config import build_study

    config = importlib.import_module(f"configs.{data}").get_config(arguments)
    with unittest.mock.patch("keras_svag.datasets.tfds.by_name.load_images", stand_in):
        return build_study(config, study)[0]


def step_cache():
    """Returns `estimate_step`, but each network is compiled once, whatever its classes."""
    from keras_svag.engine.estimate import estimate_step

    compiled = {}

    def cached(recipe, *setting):
        network = sorted(recipe.model.args[0].items())
        optimizer = type(recipe.optimizer).__name__
        key = (str(network), optimizer, recipe.augmentation is not None, *setting)
        if key not in compiled:
            compiled[key] = estimate_step(recipe, *setting)
        return compiled[key]

    return cached


def price(study, data, arguments, topology, estimate_step):
    """Returns the row of an experiment on a topology."""
    from benchmarks.accelerator import PACKAGES
    from benchmarks.run import installed_versions
    from keras_svag.engine.estimate import estimate_runs

    built = build(study, data, arguments)
    can_share = study != "noisy_gradient_descent"
    specs = built.specs(built.first_plan())
    found = estimate_runs(built.recipe, specs, topology, can_share, estimate_step)
    return {
        **dict(zip(KEYS, (study, data, arguments, topology))),
        "num_runs": found.num_runs,
        "num_steps": found.num_steps,
        "chip_hours": found.chip_hours,
        "hours": found.hours,
        "programs": [dataclasses.asdict(step) for step in found.steps],
        "versions": installed_versions(PACKAGES),
    }


def main(arguments=None):
    """Prices what is not priced yet, and writes the rows."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prices", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--only", default="", help="part of the arguments of a config")
    parser.add_argument("--topologies", type=lambda text: text.split(","), default=TOPOLOGIES)
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT)
    options = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    os.environ.update(KERAS_BACKEND="jax", JAX_PLATFORMS="cpu")
    from keras_svag.engine.files.records import write_json

    rows = json.loads(options.output.read_text("utf-8")) if options.output.exists() else []
    done = {tuple(row[key] for key in KEYS) for row in rows}
    estimate_step = step_cache()
    for topology in options.topologies:
        for experiment in experiments():
            if options.only not in experiment[2] or (*experiment, topology) in done:
                continue
            rows.append(price(*experiment, topology, estimate_step))
            write_json(options.output, rows)
            print(
                f"{experiment} on {topology}: {rows[-1]['chip_hours']:.3g} chip-hours", flush=True
            )


if __name__ == "__main__":
    main()
