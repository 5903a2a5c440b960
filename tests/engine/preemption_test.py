"""Signals to a program of one's own while it calls `study.run`."""

import os
import signal
import sys
import threading

import pytest

from keras_svag.engine.files import checkpoints
from keras_svag.engine.processes import preemption
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.spec import RunSpec
from keras_svag.engine.state import STATE_GROUPS, RunFolder
from tests.engine.conftest import RUN
from tests.engine.helpers import assert_same_end

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are of POSIX")

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers():
    """Those that a program starts with, which must be there again at the end."""
    at_start = [signal.getsignal(signum) for signum in HANDLED]
    defaults = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    for signum, handler in zip(HANDLED, defaults):
        signal.signal(signum, handler)
    yield
    assert [signal.getsignal(signum) for signum in HANDLED] == defaults
    for signum, handler in zip(HANDLED, at_start):
        signal.signal(signum, handler)


def run(recipe, recording, workdir, signum=None, times=1):
    """Executes a run in this process, which gets a signal after its first steps."""
    steps = []

    def on_steps(spec, count):
        if count and signum is not None and not any(steps):
            for _ in range(times):
                os.kill(os.getpid(), signum)
        steps.append(count)

    with RunPool(recipe, recording, workdir, num_workers=1) as pool:
        return pool.execute([RUN], on_steps)


@pytest.mark.parametrize("signum", HANDLED, ids=lambda signum: signum.name)
def test_e8_signal_to_a_script(recipe, recording, uninterrupted, tmp_path, capsys, signum):
    is_ctrl_c = signum == signal.SIGINT
    with pytest.raises(KeyboardInterrupt if is_ctrl_c else preemption.PreemptedError) as error:
        run(recipe, recording, tmp_path, signum)
    folder = RunFolder(tmp_path, RUN.name)
    assert not folder.result.exists()
    _, facts = checkpoints.load(folder.checkpoints, STATE_GROUPS)
    assert facts["step"] > 0
    if not is_ctrl_c:  # what ends a script that does not catch it, without a traceback
        assert isinstance(error.value, SystemExit) and error.value.code == 75
        assert signum.name in capsys.readouterr().err
    run(recipe, recording, tmp_path)
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_e8_second_ctrl_c_to_a_script(recipe, recording, uninterrupted, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(recipe, recording, tmp_path, signal.SIGINT, times=2)
    run(recipe, recording, tmp_path)
    assert_same_end(tmp_path, uninterrupted, RUN)


def test_handlers_of_a_script_are_left_alone(recipe, recording, tmp_path):
    received = []
    default = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        results = run(recipe, recording, tmp_path, signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, default)
    assert received == [True] and results[RUN.name]["status"] == "done"


def test_a_signal_after_the_last_run_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        with preemption.deferred_signals():
            # To this thread. `os.kill` may pick another one, and act only after the context.
            signal.raise_signal(signal.SIGINT)
    with preemption.deferred_signals():  # and forgotten
        assert not preemption.requested_signal()


def test_outside_the_main_thread_there_are_no_handlers(recipe, recording, tmp_path):
    results = []
    call = threading.Thread(target=lambda: results.append(run(recipe, recording, tmp_path)))
    call.start()
    call.join()
    assert results[0][RUN.name]["status"] == "done"


@pytest.mark.skipif(sys.platform == "win32", reason="masks are of POSIX")
def test_e8_workers_do_not_see_ctrl_c(recipe, recording, tmp_path):
    # A terminal sends it to the whole process group, this one included.
    long = RunSpec(128, 3.2, 256.0, 0, 22)
    sent = []

    def on_steps(spec, count):
        if count and not sent:
            sent.append([process._process.pid for process in pool._workers])
            for pid in sent[0]:
                for signum in HANDLED:
                    os.kill(pid, signum)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        with RunPool(recipe, recording, tmp_path, num_workers=2) as pool:
            pool.execute([long], on_steps)
    folder = RunFolder(tmp_path, long.name)
    assert folder.checkpoint.exists() and not folder.result.exists()
