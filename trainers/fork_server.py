"""Imported first by the fork server: it is killed as soon as the program that started it ends.

Otherwise it would only notice after its other imports, which take seconds.
"""

import ctypes
import signal

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>, Linux only; not inherited by the workers

ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
