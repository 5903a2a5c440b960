"""Locks in object stores, which have none: claims, small objects that their holders renew.

A process writes a claim of its own, then lists all claims, and has the lock unless it finds one of
a living process. Stores list what was written before, so of two processes that come at once at
least one finds the other: never do both have the lock. Perhaps neither has; they try again.
"""

import contextlib
import math
import random
import threading
import time
import warnings

from keras_svag.engine.files import records, storage

# A claim that was not renewed for so long, by the clock of the store, is of a dead process.
STALE_SECONDS, RENEWAL_SECONDS = 120, 15
PAUSE_SECONDS, MOST_PAUSES = (0.1, 0.5), 10
# Stores bill each request, so who was refused does not ask again for so long.
REFUSED_SECONDS = 5

_refusals: dict = {}
# Not `random` itself, which recipes seed alike in all processes: two could meet again and again.
_random = random.SystemRandom()


@contextlib.contextmanager
def acquire(path, wait=False, check=lambda: None):
    """Context that yields True if this process got the lock; a wait ends if `check` raises."""
    with contextlib.ExitStack() as stack:
        held, tries = _try(path, stack), 1
        while wait and not held:
            check()
            time.sleep(_random.uniform(*PAUSE_SECONDS) * min(tries, MOST_PAUSES))
            held, tries = _try(path, stack), tries + 1
        if not held:
            _refusals[path] = time.monotonic(), _random.uniform(0.5, 1)
        yield held


def was_refused(path):
    """Returns True if this process was just refused the lock, and should not ask again yet."""
    refused, part = _refusals.get(path, (-math.inf, 1))
    return time.monotonic() - refused < part * REFUSED_SECONDS


def _try(path, stack):
    """Returns True if this process got the lock, which the end of the stack releases."""
    # A new name each time: the old one may just be removed by another process as a dead claim.
    claim = storage.temporary_path(path)
    with contextlib.ExitStack() as claimed:
        claimed.callback(_remove, claim)
        with records.writing(path):
            storage.write(claim, b"")
            found = storage.find(path.parent, f".*{storage.TEMPORARY}{path.name}")
            others = [other for other in found if other != claim]
            if len(others) == len(found) or not all(_is_dead(other, claim) for other in others):
                return False
            for other in others:
                storage.remove(other)
        claimed.enter_context(_renewed(claim))
        stack.push(claimed.pop_all())
    return True


def _remove(claim):
    with contextlib.suppress(OSError):  # then it will be stale
        storage.remove(claim)


def _is_dead(claim, newer):
    if storage.has_ended(claim):
        return True
    now = storage.modified(newer)
    try:
        return now - storage.modified(claim) > STALE_SECONDS
    except FileNotFoundError:  # removed by its process
        return True


@contextlib.contextmanager
def _renewed(claim):
    """Context in which a thread renews a claim."""
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(claim, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _renew(claim, stop):
    while not stop.wait(RENEWAL_SECONDS):
        with contextlib.suppress(OSError):  # the next time it may work
            if not storage.exists(claim):
                warnings.warn(
                    f"This process stood still for more than {STALE_SECONDS} s, and another took "
                    f"over `{claim.parent}`. Both go on, and write the same content.",
                    stacklevel=1,
                )
                return
            storage.write(claim, b"")
