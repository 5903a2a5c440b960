"""Tests of trainers/flags.py: command lines that are wrong. None of them needs TensorFlow."""

import subprocess
import sys

import pytest

from tests.trainers.command import ROOT, assert_refused, trainer

QUICK = "--config=configs/digits.py:quick"

WRONG = {
    "no workdir": (
        [QUICK],
        ["--workdir", "workdir=None", "Example: --config="],
    ),
    "empty workdir": ([QUICK, "--workdir="], ["--workdir", "workdir=''"]),
    "no config": (
        ["--workdir={workdir}"],
        ["--config", "config=None", "Example:"],
    ),
    "unknown field": (
        [QUICK, "--workdir={workdir}", "--config.epoch=3"],
        ["--config.epoch.", "Did you mean --config.epochs?"],
    ),
    "unknown field of the model": (
        [QUICK, "--workdir={workdir}", "--config.model.widht=2"],
        ["Received: --config.model.widht.", "Did you mean --config.model.width?"],
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
        ["Unknown flag --wrkdir.", "Did you mean --workdir?"],
    ),
    "no such config": (
        ["--config=configs/digit.py", "--workdir={workdir}"],
        ["--config", "config='configs/digit.py'", "Did you mean configs/digits.py?"],
    ),
    "config without a file": (
        ["--config=", "--workdir={workdir}"],
        ["--config must name a config file"],
    ),
    "unknown strategy": (
        [QUICK, "--workdir={workdir}", "--strategy=gpu"],
        ["--strategy=gpu", "none|mirrored|multi_worker|tpu"],
    ),
    "tpu without its strategy": (
        [QUICK, "--workdir={workdir}", "--tpu=svag"],
        ["--tpu", "tpu='svag'", "strategy='none'"],
    ),
    "all devices for several runs at a time": (
        [QUICK, "--workdir={workdir}", "--strategy=mirrored", "--config.num_workers=2"],
        ["num_workers=2", "strategy='mirrored'"],
    ),
    "shards of processes that go together": (
        [QUICK, "--workdir={workdir}", "--strategy=multi_worker", "--shard=1/2"],
        ["--shard", "--strategy=multi_worker", "shard='1/2'"],
    ),
    "stray word": (
        [QUICK, "--workdir={workdir}", "quick"],
        ["['quick']", "flags"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_command_line(case, tmp_path):
    arguments, words = WRONG[case]
    workdir = tmp_path / "study"
    done = trainer(*[argument.format(workdir=workdir) for argument in arguments])
    assert_refused(done, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", ["60", "200"])
def test_help_begins_with_our_flags_and_fits_the_terminal(columns):
    done = trainer("--help", COLUMNS=columns)
    assert done.returncode == 0 and done.stderr == ""
    usage, *lines = done.stdout.splitlines()
    assert usage.startswith("Usage: python -m trainers.sde_validity --config=")
    examples = [line for line in lines if line.startswith("    python -m trainers.sde_validity")]
    assert len(examples) == 2 and "--recipe=" in examples[1]
    names = [line.partition("=")[0].strip() for line in lines if line.startswith("  --")]
    assert names[:4] == ["--config", "--config.FIELD", "--recipe", "--workdir"]
    assert all(len(line) <= min(int(columns), 100) for line in lines if line not in examples)
    assert "--helpfull" in lines[-1]


def test_every_flag_of_ours_is_in_the_help():
    from absl import flags as absl_flags

    from trainers import estimate, flags, usage

    by_module = absl_flags.FLAGS.flags_by_module_dict()
    modules = (flags.__name__, estimate.__name__)
    ours = {flag.name for module in modules for flag in by_module[module]}
    assert ours == set(usage.VALUES) - {"config.FIELD"}


def test_config_of_another_study(tmp_path):
    done = trainer("--config=configs/weak_convergence.py", f"--workdir={tmp_path / 'x'}")
    assert_refused(done, "`sde_validity` must be given", "for weak_convergence", "trainers.weak_c")
    assert len(done.stderr.splitlines()) == 2  # after the first line of every trainer


@pytest.mark.parametrize("name", ["noisy_gradient_descent", "weak_convergence"])
def test_strategy_for_a_study_of_one_device(name, tmp_path):
    done = trainer(QUICK, f"--workdir={tmp_path / 'x'}", "--strategy=mirrored", name=name)
    assert_refused(done, "--strategy", "'none'", "strategy='mirrored'")
    assert list(tmp_path.iterdir()) == []


UNKNOWN_VARIANTS = {
    "configs/digits.py:quik": "'quick'. Received: 'quik'",
    "configs/weak_convergence.py:foo": "'quick'. Received: 'foo'",
    # Refused by the package, not by the file itself; it imports TensorFlow.
    "configs/cifar10.py:size=smal": "'tiny'. Received: size='smal'",
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
    assert_refused(done, UNKNOWN_VARIANTS[variant])
    assert len(done.stderr.splitlines()) == 2  # a sentence, and where help is
    assert list(tmp_path.iterdir()) == []


def test_a_broken_config_file_shows_where(tmp_path):
    config = tmp_path / "mine.py"
    config.write_text("def get_config():\n    return int('x')\n")
    done = trainer(f"--config={config}", f"--workdir={tmp_path / 'study'}")
    assert done.returncode == 1
    assert f'File "{config}", line 2, in get_config' in done.stderr
    assert "invalid literal for int() with base 10: 'x'" in done.stderr


def test_config_is_found_from_any_folder(tmp_path):
    arguments = ("--config=configs/digits.py:quik", "--workdir=x")
    assert_refused(trainer(*arguments, cwd=tmp_path), "'quik'")
    # A file of that name in the user's folder comes first.
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text("raise ValueError('mine')")
    assert "mine" in trainer(*arguments, cwd=tmp_path).stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder where nobody may write")
def test_folder_that_cannot_be_written(tmp_path):
    done = trainer(QUICK, "--workdir=/proc/keras_svag")
    assert_refused(done, "/proc/keras_svag", "could not be written", "--workdir")


# As the pool of the studies does, not `multiprocessing.Pool`, which ends its workers by the very
# signal that they ignore here.
FORK_SERVER = """
import concurrent.futures, multiprocessing, os, signal
from multiprocessing import forkserver
from trainers import startup
signal.signal(signal.SIGTERM, signal.default_int_handler)
startup.start_fork_server()
assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
server = forkserver._forkserver._forkserver_pid
os.kill(server, signal.SIGTERM)
with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context()) as pool:
    parent = pool.submit(os.getppid).result()
    code = "'keras_svag.engine.processes.worker' in __import__('sys').modules"
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


SHOW_START_METHOD = """
import multiprocessing, sys
from trainers import flags

def study(config, workdir):
    print("start method:", multiprocessing.get_start_method(allow_none=True))

flags.run(study, "A test", argv=["trainer", *sys.argv[2:]], parallel=sys.argv[1] == "parallel")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers start anew")
@pytest.mark.parametrize(
    ("num_workers", "runs", "method"),
    [(0, "parallel", "forkserver"), (1, "parallel", "None"), (0, "one", "None")],
)
def test_a_fork_server_only_where_there_may_be_workers(num_workers, runs, method, tmp_path):
    arguments = [QUICK, f"--workdir={tmp_path}", f"--config.num_workers={num_workers}"]
    done = subprocess.run(
        [sys.executable, "-c", SHOW_START_METHOD, runs, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert f"start method: {method}\n" in done.stdout, done.stderr
