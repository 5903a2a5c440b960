"""Flags and errors that all trainers share (two modules may not define one flag each)."""

import contextlib
import gc
import importlib.util
import io
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import signal
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPE_CONFIG = "configs/recipe.py"

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    default=None,
    help_string="Config file, such as configs/digits.py or configs/digits.py:quick.",
    lock_config=True,
)
_RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "FILE.py:FUNCTION that returns a keras_svag.Recipe: one's own model and data. With --config "
    "only for the study's own fields; default: configs/recipe.py. The file is executed.",
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything that the study leaves.")

_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data set, as --config.dataset.data_dir. Default: TFDS_DATA_DIR, or "
    "~/tensorflow_datasets.",
)

_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored", "multi_worker", "tpu"],
    "Over which devices each run is spread: those of this machine, of several processes, or of a "
    "TPU. B is that of all together. See docs/tpu.md.",
)
_TPU = flags.DEFINE_string(
    "tpu", None, "Name of the TPU, for --strategy=tpu. Default: the TPU of this machine."
)
_SHARD = flags.DEFINE_string(
    "shard",
    None,
    "i/n: do only the i-th of n parts of the runs, for several processes or machines on one "
    "--workdir. The same command without it, or the part that ends last, gives the verdict.",
)


def run_study(name, distributed=True):
    """Parses the flags, runs a study and prints its table; wrong input ends with one sentence.

    SIGTERM ends the process with `preemption.EXIT_CODE`, after checkpoints.

    Args:
        name: name of the study.
        distributed: whether its runs can be spread over devices. Defaults to `True`.
    """

    def study(config, workdir):
        from keras_svag.config import build_study

        built, num_workers = build_study(config, name, load_recipe())
        result = built.run(workdir, num_workers=num_workers, shard=_SHARD.value)
        print_result(result, workdir)

    run(study, distributed=distributed)


def run(study, argv=None, distributed=True, parallel=True):
    """Parses the flags and runs `study(config, workdir)`: see `run_study`.

    Args:
        study: function of a `ConfigDict` and a path.
        argv: command line, with the program's name first. Defaults to that of the process.
        distributed: whether the runs of this study can be spread over devices.
            Defaults to `True`.
        parallel: whether there are several runs, which can go side by side in worker processes.
            Defaults to `True`.
    """

    def main(args):
        if len(args) > 1:
            raise app.UsageError(f"Unexpected arguments: {args[1:]}. All options are flags.")
        config = _CONFIG.value
        if _DATA_DIR.value is not None:
            if "data_dir" not in config.get("dataset", ()):
                raise app.UsageError(
                    "Flag --data_dir is for data sets that are read from a folder. "
                    f"Received: data_dir={_DATA_DIR.value!r} with {_data_of(config)}."
                )
            config.dataset.data_dir = _DATA_DIR.value
        _check_strategy(config, distributed)
        if parallel and config.get("num_workers", 1) != 1 and _STRATEGY.value == "none":
            _start_fork_server()
        try:
            _run_to_its_end(study, config)
        except ValueError as error:
            if not _is_ours(error):
                raise
            raise app.UsageError(str(error)) from error

    # TensorFlow tells of its CPU features on import, for some configs while flags are parsed.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    app.run(main, argv=argv, flags_parser=_parse)


def _data_of(config):
    return repr(config.dataset.name) if "dataset" in config else "a recipe"


def load_recipe():
    """The recipe of `--recipe`, or `None`."""
    if _RECIPE.value is None:
        return None
    from keras_svag.recipe.source import load_recipe

    return load_recipe(_RECIPE.value)


def _start_fork_server():
    """Starts the process of which workers will be forks, so that it imports while this one does.

    Elsewhere than on Linux, where libraries cannot be trusted to be forked, workers start anew.
    """
    if sys.platform != "linux":
        return
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["keras_svag.engine.processes.worker"])
    # Ignored signals stay so in the new process: SIGTERM to all processes of a job must not end
    # it, or workers that write their checkpoints would be taken for dead.
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGTERM, handler)


def _check_strategy(config, distributed):
    if _TPU.value is not None and _STRATEGY.value != "tpu":
        raise app.UsageError(
            "Flag --tpu is for --strategy=tpu only. "
            f"Received: tpu={_TPU.value!r}, strategy={_STRATEGY.value!r}. Leave it out."
        )
    if _STRATEGY.value == "none":
        return
    if not distributed:
        raise app.UsageError(
            "Flag --strategy must be 'none' for this study, whose steps run on one device. "
            f"Received: strategy={_STRATEGY.value!r}. Its runs go side by side in processes: see "
            "--config.num_workers."
        )
    if config.num_workers > 1:
        raise app.UsageError(
            "Flag --config.num_workers must be 0 or 1 with --strategy, which gives each run all "
            f"devices. Received: num_workers={config.num_workers}, "
            f"strategy={_STRATEGY.value!r}. Use --strategy=none for runs side by side."
        )
    if _SHARD.value is not None and _STRATEGY.value == "multi_worker":
        raise app.UsageError(
            "Flag --shard must be left out with --strategy=multi_worker, whose processes go "
            "through the same runs together and see nothing of other jobs on the workdir. "
            f"Received: shard={_SHARD.value!r}. Use another strategy for shards."
        )


def _run_under_strategy(study, config):
    if _STRATEGY.value == "none":
        study(config, _WORKDIR.value)
        return
    from keras_svag import distribution
    from keras_svag.engine.processes import preemption

    try:
        with distribution.strategy_scope(_STRATEGY.value, _TPU.value):
            # Once more: JAX has its own answer to SIGTERM in a cluster.
            preemption.install_handler()
            with distribution.process_workdir(_WORKDIR.value) as workdir:
                if distribution.is_chief():
                    study(config, workdir)
                else:
                    # What they find is the same; once is enough.
                    with contextlib.redirect_stdout(io.StringIO()):
                        study(config, workdir)
    except distribution.ProcessLostError as error:
        print(error, file=sys.stderr, flush=True)
        # At once: an orderly end would wait for the process that is gone.
        os._exit(1)


def _run_to_its_end(study, config):
    from keras_svag.engine.files import records
    from keras_svag.engine.processes import preemption

    # What is imported stays to the end, where looking through it for garbage would take a second.
    gc.freeze()
    preemption.install_handler()
    try:
        _run_under_strategy(study, config)
    except preemption.PreemptedError as error:
        print(f"{error} The same command goes on from the checkpoints.", file=sys.stderr)
        sys.exit(preemption.EXIT_CODE)
    except records.WriteError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def refuse_parts():
    """Raises if there is a `--shard`: one run has no parts."""
    if _SHARD.value is not None:
        raise app.UsageError(
            "Flag --shard is for studies, which have many runs; here there is one. "
            f"Received: shard={_SHARD.value!r}"
        )


def _is_ours(error):
    """Whether our own code raised it: what other libraries raise needs its traceback."""
    if type(error).__module__.startswith("keras_svag."):  # it may come from a worker process
        return True
    package = pathlib.Path(importlib.util.find_spec("keras_svag").origin).parent
    raised_in = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename).resolve()
    folders = (package, ROOT / "trainers", ROOT / "configs")
    return any(raised_in.is_relative_to(folder.resolve()) for folder in folders)


def print_result(result, workdir):
    """Prints the table of a study and where its report is, or that other shards are missing.

    Args:
        result: a `Result`, or `None`.
        workdir: folder of the study.
    """
    if result is None:
        print(
            f"The runs of shard {_SHARD.value} are finished, some of the other shards' are not. "
            "When they are, give the same command without --shard for the verdict."
        )
        return
    print(repr(result))
    print(f"\nReport: {(pathlib.Path(workdir) / 'report.html').resolve()}")


def _parse(argv):
    argv = [argv[0], *map(_resolve_config, argv[1:])]
    if _has(argv, "recipe") and not _has(argv, "config"):
        argv.insert(1, f"--config={ROOT / RECIPE_CONFIG}")
    try:
        rest = flags.FLAGS(argv)
        config = _CONFIG.value
    except (AttributeError, KeyError, TypeError) as error:
        # ml_collections wraps a `KeyError` in another, and each quotes the text of the one inside.
        received = error
        while isinstance(received, Exception) and received.args:
            received = received.args[0]
        received = ". ".join(str(received).splitlines())
        _usage_error(
            "A flag --config.x=value must name a field that the config file has, with a value of "
            f"its type. Received: {received}"
        )
    except (OSError, ValueError, flags.Error) as error:
        _usage_error(_words_of(error))
    for name, value in (("config", config), ("workdir", _WORKDIR.value)):
        if not value:
            _usage_error(
                f"Flag --{name} must be given. Received: {name}={value!r}. Example: "
                "--config=configs/digits.py --workdir=/tmp/digits, or --recipe=my_file.py:make "
                "--workdir=/tmp/mine"
            )
    return rest


def _has(argv, name):
    return any(a in (f"--{name}", f"-{name}") or a.startswith(f"--{name}=") for a in argv[1:])


def _words_of(error):
    """What our own code said, where ml_collections puts a config file's traceback around it."""
    inner = error
    while inner is not None:
        if isinstance(inner, ValueError) and inner.__traceback__ and _is_ours(inner):
            return str(inner)
        inner = inner.__cause__ or inner.__context__
    return str(error)


def _resolve_config(argument):
    """Lets `--config=configs/x.py` work from any folder, also where the package is installed."""
    prefix = "--config="
    if not argument.startswith(prefix):
        return argument
    file, colon, rest = argument[len(prefix) :].partition(":")
    if not pathlib.Path(file).is_file():
        if not (ROOT / file).is_file():
            _usage_error(
                "Flag --config must name a config file, such as configs/digits.py, from this "
                f"folder or that of keras_svag. Received: config={file!r}, which does not exist."
            )
        file = str(ROOT / file)
    return f"{prefix}{file}{colon}{rest}"


def _usage_error(message):
    print(f"{message}\nRun with --help for all flags.", file=sys.stderr)
    sys.exit(1)
