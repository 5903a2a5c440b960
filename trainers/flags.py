"""Flags and error handling of all trainers."""

import contextlib
import faulthandler
import gc
import hashlib
import importlib.util
import io
import os
import pathlib
import sys
import traceback

from absl import app, flags
from ml_collections import config_flags

from . import estimate, quiet, startup, usage

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXIT_SECONDS = 20.0
RECIPE_CONFIG = "configs/recipe.py"

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    default=None,
    help_string="Config file, such as configs/digits.py or configs/digits.py:quick. The file is "
    "Python code, which is executed.",
    lock_config=True,
)
_RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "Function that returns a keras_svag.Recipe, your own model and data. The file is "
    "Python code, which is executed. --config then only sets fields of the study; default: "
    "configs/recipe.py.",
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Output folder, local or in an object store, such as gs://bucket/folder; ~ is expanded.",
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Folder of the data set, the same as --config.dataset.data_dir. Default: TFDS_DATA_DIR, or "
    "~/tensorflow_datasets.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "none",
    ["none", "mirrored", "multi_worker", "tpu"],
    "Distributes each run over the devices of this machine, of several processes or of a TPU. "
    "Batch sizes are global. See docs/tpu.md.",
)
_TPU = flags.DEFINE_string(
    "tpu", None, "Name of the TPU, for --strategy=tpu. Default: the TPU of this machine."
)
_JOIN_TIMEOUT = flags.DEFINE_float(
    "join_timeout", 30.0, "Seconds for the processes of --strategy=multi_worker to find each other."
)
_SHARD = flags.DEFINE_string(
    "shard",
    None,
    "Runs only part i of n, to split a study over processes or machines with one --workdir. "
    "The part that ends last gives the verdict, or the same command without --shard.",
)


def run_study(name, title=None, description="", distributed=True):
    """Parses the flags, runs the study `name` and prints its table."""

    def study(config, workdir):
        from keras_svag.config import build_study
        from keras_svag.report.text import show

        built, num_workers = build_study(config, name, load_recipe())
        if estimate.is_asked():
            return estimate.print_estimate(built, can_share=distributed)
        result = built.run(workdir, num_workers=num_workers, shard=_SHARD.value)
        if result is None:
            print(
                f"Shard {_SHARD.value} is done, other shards are not. When they are, run the same "
                "command without --shard for the verdict."
            )
            return None
        show(repr(result))
        report = result.report
        print(f"\nReport: {report.resolve() if isinstance(report, pathlib.Path) else report}")

    run(study, title or name, description, distributed=distributed)


def run(study, title, description="", argv=None, distributed=True, parallel=True):
    """Parses the flags and runs `study(config, workdir)`; invalid input exits with one sentence."""

    # `distributed`: runs may span several devices; `parallel`: there may be worker processes.
    def main(args):
        if len(args) > 1:
            usage.exit_with_usage(f"All arguments must be flags. Received: {args[1:]}")
        config = _CONFIG.value
        if _DATA_DIR.value is not None:
            if "data_dir" not in config.get("dataset", ()):
                data = repr(config.dataset.name) if "dataset" in config else "a recipe"
                usage.exit_with_usage(
                    "Flag --data_dir is for data sets that are read from a folder. "
                    f"Received: data_dir={_DATA_DIR.value!r} with {data}."
                )
            config.dataset.data_dir = _DATA_DIR.value
        _check_strategy(config, distributed)
        if not estimate.is_asked():
            usage.introduce(title, config, _RECIPE.value)
        has_workers = config.get("num_workers", 1) != 1 and _STRATEGY.value == "none"
        if parallel and has_workers and not estimate.is_asked():
            startup.start_fork_server()
        try:
            _run_with_exit_codes(study, config)
        except ValueError as error:
            if not _is_raised_by_us(error):
                raise
            usage.exit_with_error(error)

    startup.begin()  # again, for programs that did not
    quiet.set_levels()
    app.run(main, argv=argv, flags_parser=lambda argv: _parse(argv, title, description))


def load_recipe():
    """Returns the recipe of `--recipe`, or `None`."""
    if _RECIPE.value is None:
        return None
    from keras_svag.recipe.source import load_recipe

    return load_recipe(_RECIPE.value)


def check_no_shard():
    """Raises if `--shard` is given to a trainer of a single run."""
    if _SHARD.value is not None:
        usage.exit_with_usage(
            "Flag --shard is for studies of many runs; this trainer has one. "
            f"Received: shard={_SHARD.value!r}"
        )


def _check_strategy(config, distributed):
    if _TPU.value is not None and _STRATEGY.value != "tpu":
        usage.exit_with_usage(
            "Flag --tpu requires --strategy=tpu. "
            f"Received: tpu={_TPU.value!r}, strategy={_STRATEGY.value!r}. Leave it out."
        )
    if _STRATEGY.value == "none":
        return
    if not distributed:
        usage.exit_with_usage(
            "Flag --strategy must be 'none' for this study, which trains on one device. "
            f"Received: strategy={_STRATEGY.value!r}. Run several processes with "
            "--config.num_workers instead."
        )
    if config.num_workers > 1:
        usage.exit_with_usage(
            "Flag --config.num_workers must be 0 or 1 with --strategy, where every run uses all "
            f"devices. Received: num_workers={config.num_workers}, "
            f"strategy={_STRATEGY.value!r}. Use --strategy=none for parallel runs."
        )
    if _SHARD.value is not None and _STRATEGY.value == "multi_worker":
        usage.exit_with_usage(
            "Flag --shard must be left out with --strategy=multi_worker, whose processes share "
            f"every run. Received: shard={_SHARD.value!r}. Use another strategy for shards."
        )


def _run_under_strategy(study, config):
    if _STRATEGY.value == "none":
        study(config, _WORKDIR.value)
        return
    from keras_svag import distribution
    from keras_svag.engine.files import shared_folder

    try:
        with distribution.strategy_scope(_STRATEGY.value, _TPU.value, _JOIN_TIMEOUT.value):
            # Before any variable is made, for which the processes wait for each other.
            distribution.check_same_on_all("config", lambda: _describe_input(config))
            with shared_folder.process_workdir(_WORKDIR.value) as workdir:
                # All processes have the same result; the chief prints it.
                stdout = sys.stdout if distribution.is_chief() else io.StringIO()
                with contextlib.redirect_stdout(stdout):
                    study(config, workdir)
    except distribution.ProcessLostError as error:
        print(error, file=sys.stderr, flush=True)
        # An orderly exit would wait for the lost process.
        os._exit(1)
    finally:
        if _STRATEGY.value == "multi_worker":
            # Nor does it wait for one that is lost in its last moments.
            null = open(os.devnull, "w", encoding="utf-8")
            faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=null)


def _describe_input(config):
    """The config, without what may differ between machines, and the text of the recipe's file."""
    fields = config.to_dict()
    fields.get("dataset", {}).pop("data_dir", None)
    if _RECIPE.value is not None:
        file, _, function = _RECIPE.value.rpartition(":")
        path = pathlib.Path(file).expanduser()
        content = path.read_bytes() if path.is_file() else b""
        fields["recipe"] = f"{function} of {hashlib.sha256(content).hexdigest()[:12]}"
    return fields


def _run_with_exit_codes(study, config):
    with quiet.imports():
        import keras_svag.studies  # noqa: F401
    from keras_svag.engine.files import records, remote
    from keras_svag.engine.processes import preemption

    # Imported modules live to the end; garbage collection of them would take a second.
    gc.freeze()
    startup.forward_signals(preemption.request)
    try:
        _run_under_strategy(study, config)
    except preemption.PreemptedError as error:
        print(f"{error} The same command resumes from the checkpoints.", file=sys.stderr)
        sys.exit(error.code)
    except (records.WriteError, remote.ReadError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)


def _is_raised_by_us(error):
    """Returns False for errors of other libraries, which need their traceback."""
    package = pathlib.Path(importlib.util.find_spec("keras_svag").origin).parent
    # Of an error in a worker process its cause tells where it was raised.
    file = getattr(error.__cause__, "file", traceback.extract_tb(error.__traceback__)[-1].filename)
    raised_in = pathlib.Path(file).resolve()
    folders = (package, ROOT / "trainers", ROOT / "configs")
    return any(raised_in.is_relative_to(folder.resolve()) for folder in folders)


def _parse(argv, title, description):
    if usage.wants_help(argv):
        usage.exit_with_help(argv[0], description)
    estimate.prepare(argv)
    argv = [argv[0], *(_resolve_config(argument, title) for argument in argv[1:])]
    if _has_flag(argv, "recipe") and not _has_flag(argv, "config"):
        argv.insert(1, f"--config={ROOT / RECIPE_CONFIG}")
    try:
        with quiet.imports():  # of the config
            remaining = flags.FLAGS(argv)
            config = _CONFIG.value
    except (AttributeError, KeyError, TypeError) as error:
        usage.exit_with_usage(usage.wrong_field(error, argv))
    except flags.UnrecognizedFlagError as error:
        usage.exit_with_usage(usage.unknown_flag(error.flagname))
    except (OSError, ValueError, flags.Error) as error:
        usage.exit_with_usage(_innermost_message(error))
    for name, value in (("config", config), ("workdir", _WORKDIR.value)):
        if not value and not (name == "workdir" and estimate.is_asked()):
            usage.exit_with_usage(
                f"Flag --{name} must be given. Received: {name}={value!r}. Example: "
                "--config=configs/digits.py --workdir=/tmp/digits, or "
                "--recipe=my_file.py:make_recipe --workdir=/tmp/mine"
            )
    return remaining


def _has_flag(argv, name):
    return any(a in (f"--{name}", f"-{name}") or a.startswith(f"--{name}=") for a in argv[1:])


def _innermost_message(error):
    """Returns our own message from inside the traceback text that ml_collections adds."""
    inner = error
    while inner is not None:
        if isinstance(inner, ValueError) and inner.__traceback__ and _is_raised_by_us(inner):
            return str(inner)
        inner = inner.__cause__ or inner.__context__
    return str(error)


def _resolve_config(argument, title):
    """Lets `--config=configs/x.py` work from any folder, also with an installed package."""
    prefix = "--config="
    if not argument.startswith(prefix):
        return argument
    file, colon, arguments = argument[len(prefix) :].partition(":")
    file = os.path.expanduser(file)
    if not pathlib.Path(file).is_file():
        if not (ROOT / file).is_file():
            usage.exit_with_usage(
                "Flag --config must name a config file, such as configs/digits.py, relative to "
                "this folder or to that of keras_svag. "
                f"Received: config={file!r}, which does not exist."
                + usage.did_you_mean(file, [f"configs/{p.name}" for p in ROOT.glob("configs/*.py")])
            )
        file = str(ROOT / file)
    usage.introduce_early(title, file)
    return f"{prefix}{file}{colon}{arguments}"
