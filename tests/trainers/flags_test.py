"""Tests of trainers/flags.py: command lines that are wrong. None of them needs TensorFlow."""

import json
import pathlib
import subprocess
import sys
import types

import pytest
from absl import app

from tests.trainers.command import ROOT, assert_refused, trainer

QUICK = "--config=configs/digits.py:quick"

WRONG = {
    "no workdir": (
        [QUICK],
        ["Flag --workdir must be given. Received: workdir=None", "Example: --config="],
    ),
    "empty workdir": ([QUICK, "--workdir="], ["Flag --workdir must be given", "workdir=''"]),
    "no config": (
        ["--workdir={workdir}"],
        ["Flag --config must be given. Received: config=None", "Example:"],
    ),
    "unknown field": (
        [QUICK, "--workdir={workdir}", "--config.epoch=3"],
        ["must name a field that the config file has", "Received: 'epoch'", 'mean "epochs"'],
    ),
    "unknown field of the model": (
        [QUICK, "--workdir={workdir}", "--config.model.widht=2"],
        ["must name a field that the config file has", "Received: 'widht'", 'mean "width"'],
    ),
    "field of another type": (
        [QUICK, "--workdir={workdir}", "--config.num_seeds=2.5"],
        ["--config.num_seeds=2.5", "int()"],
    ),
    "field before its config": (
        ["--config.epochs=3", QUICK, "--workdir={workdir}"],
        ["--config.epochs=3", "before a value for --config"],
    ),
    "unknown flag": (
        [QUICK, "--workdir={workdir}", "--wrkdir=x"],
        ["'wrkdir'", "Did you mean: workdir"],
    ),
    "no such config": (
        ["--config=configs/digit.py", "--workdir={workdir}"],
        ["Flag --config must name a config file", "Received: config='configs/digit.py'"],
    ),
    "config without a file": (
        ["--config=", "--workdir={workdir}"],
        ["Flag --config must name a config file"],
    ),
    "unknown strategy": (
        [QUICK, "--workdir={workdir}", "--strategy=gpu"],
        ["--strategy=gpu", "none|mirrored|multi_worker|tpu"],
    ),
    "tpu without its strategy": (
        [QUICK, "--workdir={workdir}", "--tpu=svag"],
        ["--tpu is for --strategy=tpu only", "Received: tpu='svag', strategy='none'"],
    ),
    "all devices for several runs at a time": (
        [QUICK, "--workdir={workdir}", "--strategy=mirrored", "--config.num_workers=2"],
        ["num_workers must be 0 or 1", "Received: num_workers=2, strategy='mirrored'"],
    ),
    "shards of processes that go together": (
        [QUICK, "--workdir={workdir}", "--strategy=multi_worker", "--shard=1/2"],
        ["--shard must be left out with --strategy=multi_worker", "Received: shard='1/2'"],
    ),
    "stray word": (
        [QUICK, "--workdir={workdir}", "quick"],
        ["Unexpected arguments: ['quick']", "are flags"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_command_line(case, tmp_path):
    arguments, words = WRONG[case]
    workdir = tmp_path / "study"
    done = trainer(*[argument.format(workdir=workdir) for argument in arguments])
    assert_refused(done, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["noisy_gradient_descent", "weak_convergence"])
def test_strategy_for_a_study_of_one_device(name, tmp_path):
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", "--strategy=mirrored", name=name)
    assert_refused(done, "--strategy must be 'none' for this study", "strategy='mirrored'")
    assert list(tmp_path.iterdir()) == []


UNKNOWN_VARIANTS = {
    "configs/digits.py:quik": "The argument after `configs/digits.py:` must be 'default' or "
    "'quick'. Received: 'quik'",
    "configs/weak_convergence.py:foo": "The argument after `configs/weak_convergence.py:` must be "
    "'default' or 'quick'. Received: 'foo'",
    # Refused by the package, not by the file itself; it imports TensorFlow.
    "configs/cifar10.py:size=smal": "`size` must be one of 'paper', 'small', 'tiny'. "
    "Received: size='smal'",
}


@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(variant, marks=[pytest.mark.slow] if "cifar10" in variant else [])
        for variant in UNKNOWN_VARIANTS
    ],
)
def test_unknown_variant_of_the_config(variant, tmp_path):
    done = trainer(f"--config={variant}", f"--workdir={tmp_path / 'study'}")
    assert done.returncode == 1
    assert done.stderr == f"{UNKNOWN_VARIANTS[variant]}\nRun with --help for all flags.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_broken_config_file_shows_where(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("def get_config():\n    return int('x')\n")
    done = trainer(f"--config={config}", f"--workdir={tmp_path / 'study'}")
    assert done.returncode == 1
    assert f'File "{config}", line 2, in get_config' in done.stderr
    assert "invalid literal for int() with base 10: 'x'" in done.stderr


def test_only_our_own_errors_are_told_without_a_traceback():
    from trainers.flags import _is_ours

    def error_of(function, *arguments):
        try:
            function(*arguments)
        except ValueError as error:
            return error

    from keras_svag._checks import positive_int

    assert _is_ours(error_of(positive_int, "epochs", 0))
    assert not _is_ours(error_of(json.loads, "{"))


def test_config_is_found_from_any_folder(tmp_path, monkeypatch):
    from trainers.flags import _resolve_config

    monkeypatch.chdir(tmp_path)
    assert _resolve_config("--config=configs/digits.py:quick") == (
        f"--config={ROOT / 'configs' / 'digits.py'}:quick"
    )
    # A file of that name in the user's folder comes first; other flags are left alone.
    (tmp_path / "configs").mkdir()
    pathlib.Path("configs/digits.py").write_text("")
    assert _resolve_config("--config=configs/digits.py") == "--config=configs/digits.py"
    assert _resolve_config("--config.epochs=3") == "--config.epochs=3"


def test_preemption_and_full_disks_end_with_a_sentence(capsys, monkeypatch):
    from keras_svag.study import preemption, records
    from trainers import flags

    monkeypatch.setattr(preemption, "watch", lambda: None)
    monkeypatch.setattr(flags, "_WORKDIR", types.SimpleNamespace(value="/tmp/w"))
    monkeypatch.setattr(flags, "_STRATEGY", types.SimpleNamespace(value="none"))

    def end_of(error):
        def study(config, workdir):
            raise error

        with pytest.raises(SystemExit) as end:
            flags._run_to_its_end(study, None)
        return end.value.code, capsys.readouterr().err

    # EX_TEMPFAIL of sysexits.h: a scheduler tells it from a failure, and from a kill (143).
    code, said = end_of(preemption.PreemptedError())
    assert (code, said) == (
        75,
        "The study was asked to end (SIGTERM). The same command goes on from the checkpoints.\n",
    )
    assert end_of(records.WriteError("`x` could not be written.")) == (
        1,
        "`x` could not be written.\n",
    )


# As the pool of the studies does, not `multiprocessing.Pool`, which ends its workers by the very
# signal that they ignore here.
FORK_SERVER = """
import concurrent.futures, multiprocessing, os, signal
from multiprocessing import forkserver
from trainers import flags
signal.signal(signal.SIGTERM, signal.default_int_handler)
flags._start_fork_server()
assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
server = forkserver._forkserver._forkserver_pid
os.kill(server, signal.SIGTERM)
with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context()) as pool:
    parent = pool.submit(os.getppid).result()
    code = "'keras_svag.study.pool' in __import__('sys').modules"
    imported = pool.submit(eval, code).result()
assert parent == server != os.getpid()
assert imported
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers start anew")
def test_workers_are_forks_of_a_process_that_has_imported_all_and_outlives_sigterm():
    done = subprocess.run(
        [sys.executable, "-c", FORK_SERVER], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "num_workers, strategy, parallel, wanted",
    [
        (0, "none", True, True),
        (2, "none", True, True),
        (1, "none", True, False),
        (0, "mirrored", True, False),
        (0, "none", False, False),  # one run, as in trainers/train.py
    ],
)
def test_a_fork_server_only_where_there_may_be_workers(
    num_workers, strategy, parallel, wanted, monkeypatch
):
    from trainers import flags

    values = {"_CONFIG": {"num_workers": num_workers}, "_DATA_DIR": None, "_STRATEGY": strategy}
    for name, value in values.items():
        monkeypatch.setattr(flags, name, types.SimpleNamespace(value=value))
    done = []
    monkeypatch.setattr(flags.app, "run", lambda main, **options: main(["trainer"]))
    monkeypatch.setattr(flags, "_check_strategy", lambda config, distributed: None)
    monkeypatch.setattr(flags, "_start_fork_server", lambda: done.append("server"))
    monkeypatch.setattr(flags, "_run_to_its_end", lambda study, config: done.append("study"))
    flags.run(None, parallel=parallel)
    assert done == (["server", "study"] if wanted else ["study"])


def test_shard_is_not_for_one_run(monkeypatch):
    from trainers import flags

    monkeypatch.setattr(flags, "_SHARD", types.SimpleNamespace(value=None))
    flags.refuse_shard()
    flags._SHARD.value = "1/4"
    with pytest.raises(app.UsageError, match="Flag --shard is for studies.*shard='1/4'"):
        flags.refuse_shard()
