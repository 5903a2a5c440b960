"""Imported by the fork server: it is killed as soon as the program that started it ends.

Otherwise it would only notice after the imports of the workers, which take seconds.
"""

import contextlib
import ctypes
import signal

from . import quiet

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>, Linux only; not inherited by the workers

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

quiet.set_levels()
with contextlib.suppress(Exception), quiet.imports():  # the program itself will raise it
    import keras_svag.engine.processes.worker  # noqa: E402, F401
