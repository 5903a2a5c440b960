"""`study.run(executor=...)`: a call for each run gives the files of a run without an executor."""

import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import signal
import threading
import time

import keras
import numpy as np
import pytest

from keras_svag import Recipe, check_sde
from keras_svag.engine import execution
from keras_svag.engine.files import lock
from keras_svag.engine.processes import call, preemption
from keras_svag.engine.processes import executor as executor_module
from keras_svag.engine.processes.executor import ExecutorPool
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.studies import SDEValidity
from tests.faults import kill_test
from tests.faults.kill_test import assert_same
from tests.studies.helpers import hide_figures

pytestmark = pytest.mark.usefixtures("without_figures")
left_behind = functools.partial(kill_test.left_behind, has_figures=False)


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])


def make_recipe(model=build, count=8192):
    # More than is pickled, and so few weights that nothing depends on the number of threads.
    x = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    return Recipe(model, (x, x[:, :1]), keras.optimizers.SGD(0.01), "mse", 512, epochs=1)


def make_study(**fields):
    fields = {"num_seeds": 2, "max_num_seeds": 2, "num_records": 4, "max_ell": 2} | fields
    return SDEValidity(make_recipe(), ells=(1, 2), **fields)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("executor") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        hide_figures(patch)
        make_study().run(workdir, num_workers=1, show_progress=False, command=["c"])
    return workdir


class Deputy(concurrent.futures.Executor):
    """Calls functions in this process when their result is asked for, after `prepare(job)`."""

    def __init__(self, prepare=lambda job: job):
        self.calls, self._prepare = [], prepare

    def submit(self, function, job, run, token):
        self.calls.append((run, token))
        future = concurrent.futures.Future()
        try:
            future.set_result(function(self._prepare(job), run, token))
        except Exception as error:
            future.set_exception(error)
        return future


def run(workdir, executor, study=None, **options):
    study = study or make_study()
    return study.run(workdir, executor=executor, show_progress=False, command=["c"], **options)


def test_same_files_as_without(expected, tmp_path):
    # Threads take turns: Keras has one state for all of them.
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        run(tmp_path / "study", threads)
    assert_same(left_behind(tmp_path / "study"), left_behind(expected))
    assert not list((tmp_path / "study").glob(".calls*"))  # nothing is left


def test_one_call_for_each_run_that_is_missing(expected, tmp_path):
    deputy = Deputy()
    run(tmp_path / "study", deputy, make_study(num_seeds=1, max_num_seeds=1))
    assert len(deputy.calls) == 2
    run(tmp_path / "study", deputy)
    names = [run.name for run, _ in deputy.calls]
    assert len(names) == 4 and sorted(names) == sorted(p.name for p in expected.glob("runs/*"))
    assert len({token for _, token in deputy.calls}) == 4  # dask keeps results of equal calls
    run(tmp_path / "study", deputy)
    assert len(deputy.calls) == 4


def test_check_sde_takes_an_executor(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 3))
    arguments = (build, keras.optimizers.SGD(0.01), "mse", (x, x[:, :1]))
    options = {"batch_size": 8, "epochs": 2, "metrics": (), "num_records": 8, "num_seeds": 2}
    options |= {"show_progress": False, "executor": (deputy := Deputy())}
    assert check_sde(*arguments, workdir=tmp_path / "study", **options).verdict
    assert len(deputy.calls) == 8
    with pytest.raises(ValueError, match="`workdir` must be given with an executor"):
        check_sde(*arguments, **options)


class Flaky(Deputy):
    """Loses the first `count` calls."""

    def __init__(self, count, after=lambda: None):
        super().__init__()
        self._left, self._after = count, after

    def submit(self, function, job, run, token):
        future = super().submit(function, job, run, token)
        if self._left:
            self._left -= 1
            future = concurrent.futures.Future()
            future.set_exception(ConnectionError("the node\nis gone"))
        return future


def test_lost_call_is_repeated_once(expected, tmp_path):
    flaky = Flaky(1)
    run(tmp_path / "study", flaky)
    assert len(flaky.calls) == 5
    assert_same(left_behind(tmp_path / "study"), left_behind(expected))


def test_call_that_is_lost_twice_is_reported_in_one_sentence(tmp_path, capsys):
    study, lost = make_study(num_seeds=1, max_num_seeds=1), Flaky(4)
    result = study.run(tmp_path, executor=lost, command=["c"])
    printed = capsys.readouterr().err
    assert len(lost.calls) == 4 and len(result.details["failed_runs"]) == 2
    for name, message in result.details["failed_runs"].items():
        assert f"Run {name}: its call failed 2 times" in message and "\n" not in message
        assert "ConnectionError: the node is gone" in message
        assert message in printed
    # The runs themselves went well: the same call finds their results.
    assert run(tmp_path, Deputy(), study).details["failed_runs"] == {}


class Closed(Deputy):
    def submit(self, *_):
        raise RuntimeError("cannot schedule new futures after shutdown")


def test_executor_that_takes_no_calls(tmp_path):
    with pytest.raises(concurrent.futures.BrokenExecutor) as error:
        run(tmp_path, Closed())
    for words in ("executor=Closed", "after shutdown", "Repeat the call with a new executor"):
        assert words in str(error.value)
    assert not list(tmp_path.glob(".calls*"))


def test_errors_for_the_user_are_raised(tmp_path):
    def elsewhere(job):
        return dataclasses.replace(job, folder=job.folder.replace(str(tmp_path), "/elsewhere"))

    def other_backend(job):
        return dataclasses.replace(job, backend="torch")

    for prepare, words in {
        elsewhere: "`workdir` must be a folder that all processes of the executor see",
        other_backend: "KERAS_BACKEND=torch",
    }.items():
        deputy = Deputy(prepare)
        with pytest.raises(ValueError, match=words):
            run(tmp_path / "study", deputy)
        assert len(deputy.calls) >= 2


WRONG = {
    "no executor": ({"executor": 3}, "`executor` must have a method `submit`.*executor=3"),
    "workers": ({"num_workers": 2}, "`num_workers`.*left out.*num_workers=2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case, tmp_path):
    options, words = WRONG[case]
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "study", **{"executor": Deputy()} | options)
    assert not (tmp_path / "study").exists()


def test_recipe_that_cannot_be_sent(tmp_path):
    mutex = threading.Lock()
    study = SDEValidity(make_recipe(lambda seed: (mutex, build(seed))[1]), ells=(1, 2))
    with pytest.raises(ValueError, match="`recipe` must hold.*pickled"):
        run(tmp_path / "study", Deputy(), study)
    assert not (tmp_path / "study").exists()


RECORDING = Recording(num_records=4, checkpoint_steps=1)
LONG = RunSpec(512, 0.01, 2.0**14, 0, 16)


def test_run_of_another_process_is_waited_for(tmp_path):
    first, second = (RunSpec(512, 0.01, 1.0, seed, 16) for seed in (0, 1))
    other = lock.acquire(RunFolder(make_folder(tmp_path), first.name).lock)
    assert other.__enter__()
    deputy, done = Deputy(), []

    def on_steps(run, steps):
        done.append(run)
        if run == second:
            time.sleep(1)  # nobody asks again before the lock is free
            assert len(deputy.calls) == 2
            other.__exit__(None, None, None)

    with ExecutorPool(deputy, make_recipe(), RECORDING, tmp_path) as pool:
        results = pool.execute([first, second], on_steps)
    assert done == [second, first] and len(deputy.calls) == 3
    assert {result["status"] for result in results.values()} == {execution.DONE}


def make_folder(path):
    (path / "runs").mkdir(exist_ok=True)
    return path


def test_calls_stop_after_a_checkpoint_if_this_process_fails(tmp_path):
    short = RunSpec(512, 0.01, 1.0, 0, 16)

    def fail(run, steps):
        raise ZeroDivisionError

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with pytest.raises(ZeroDivisionError):
            with ExecutorPool(threads, make_recipe(), RECORDING, tmp_path) as pool:
                pool.execute([short], lambda run, steps: None)
                pool.execute([short, LONG], fail)
        folder = RunFolder(tmp_path, LONG.name)
        assert not folder.result.exists()
    assert not list(tmp_path.glob(".calls*"))


def test_running_call_stops_after_a_checkpoint(tmp_path, monkeypatch):
    requested = []
    monkeypatch.setattr(preemption, "raise_if_requested", lambda: requested and fail())

    def fail():
        raise preemption.PreemptedError

    folder = RunFolder(tmp_path, LONG.name)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        with pytest.raises(preemption.PreemptedError):
            with ExecutorPool(threads, make_recipe(), RECORDING, tmp_path) as pool:
                submit = pool._submit

                def submit_and_stop(*arguments):
                    submit(*arguments)
                    while not folder.checkpoint.exists():
                        time.sleep(0.05)
                    requested.append(True)

                pool._submit = submit_and_stop
                pool.execute([LONG], lambda run, steps: None)
    assert folder.checkpoint.exists() and not folder.result.exists()
    assert not list(tmp_path.glob(".calls*"))


def test_what_killed_processes_left_is_removed(tmp_path):
    old, new = tmp_path / ".calls.old", tmp_path / ".calls.new"
    for folder in (old, new):
        folder.mkdir()
        (folder / "alive").touch()
        (folder / "0.npy").touch()
    long_ago = time.time() - executor_module.DEAD_SECONDS - 60
    os.utime(old / "alive", (long_ago, long_ago))
    run(tmp_path, Deputy(), make_study(num_seeds=1, max_num_seeds=1))
    assert not old.exists() and new.exists()


def test_what_a_process_left_that_was_killed_while_it_stopped_is_removed(tmp_path):
    old, new = tmp_path / ".calls.old", tmp_path / ".calls.new"
    for folder in (old, new):  # without the file that shows life
        folder.mkdir()
        (folder / "0.npy").touch()
    long_ago = time.time() - executor_module.DEAD_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    run(tmp_path, Deputy(), make_study(num_seeds=1, max_num_seeds=1))
    assert not old.exists() and new.exists()


class Hanging(concurrent.futures.Executor):
    """Its calls neither end nor can be cancelled."""

    def submit(self, *_):
        future = concurrent.futures.Future()
        future.set_running_or_notify_cancel()
        return future


@pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")
def test_second_ctrl_c_leaves_no_files(tmp_path, monkeypatch):
    sleeps = []

    def sleep(seconds):
        sleeps.append(seconds)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(executor_module.time, "sleep", sleep)
    with pytest.raises(KeyboardInterrupt):
        with ExecutorPool(Hanging(), make_recipe(), RECORDING, tmp_path) as pool:
            pool.execute([LONG], lambda run, steps: None)
    assert len(sleeps) == 2 and not list(tmp_path.glob(".calls*"))


def test_ctrl_c_in_a_call_ends_the_call_and_not_its_process(monkeypatch):
    monkeypatch.setattr(call, "_execute", lambda job, run: signal.raise_signal(signal.SIGINT))
    assert call.execute(None, None, "token")["status"] == call.STOPPED


@pytest.mark.slow
def test_process_pool(expected, tmp_path):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as processes:
        run(tmp_path / "study", processes)
    assert_same(left_behind(tmp_path / "study"), left_behind(expected))


def build_or_die(seed):
    if multiprocessing.parent_process() is not None:
        os.kill(os.getpid(), signal.SIGKILL)
    return build(seed)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is of POSIX")
def test_process_pool_that_breaks(tmp_path):
    study = SDEValidity(make_recipe(build_or_die), ells=(1, 2), num_seeds=1, max_num_seeds=1)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as processes:
        with pytest.raises(concurrent.futures.BrokenExecutor) as error:
            run(tmp_path, processes, study)
    assert "ProcessPoolExecutor" in str(error.value) and "\n" not in str(error.value)
    assert "Repeat the call with a new executor" in str(error.value)
