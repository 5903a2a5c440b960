"""Tests of keras_svag/_backend.py: which backends are refused, and with what words."""

import gc
import os
import subprocess
import sys

import keras
import pytest

from keras_svag._backend import check_backend
from tests.backends import run_code


@pytest.mark.parametrize("backend", ["torch", "no_such_backend"])
def test_backend_of_the_environment_is_refused_on_import(backend):
    # Before Keras is imported, which would only say that, say, torch is not installed.
    code = (
        "import sys\n"
        "try:\n"
        "    import keras_svag\n"
        "except ValueError as error:\n"
        "    print(error)\n"
        "    print('keras' in sys.modules)\n"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    message, keras_imported = done.stdout.splitlines()
    assert "needs one of the Keras backends tensorflow and jax" in message
    assert f"Received: backend='{backend}' (from the environment variable KERAS_BACKEND)" in message
    assert "KERAS_BACKEND=tensorflow, or KERAS_BACKEND=jax, before Keras is imported" in message
    assert keras_imported == "False"


def test_backend_of_the_keras_config_file_is_refused(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ValueError, match=r"Received: backend='torch' \(from keras.backend"):
        check_backend()


def test_backend_of_the_tests_is_accepted(monkeypatch):
    backend = keras.backend.backend()
    for requested in (backend, ""):
        monkeypatch.setenv("KERAS_BACKEND", requested)
        assert check_backend() == backend


def test_no_garbage_is_collected_while_keras_is_imported():
    code = (
        "import gc, sys\n"
        "during = []\n"
        "def note(phase, info):\n"
        "    keras = sys.modules.get('keras')\n"
        "    during.append(keras is not None and keras.__spec__._initializing)\n"
        "gc.callbacks.append(note)\n"
        "import keras_svag\n"
        "print(len(during) > 0, any(during), gc.isenabled())\n"
    )
    assert run_code(code, backend=keras.backend.backend()).split() == ["True", "False", "True"]


def test_collection_stays_off_where_it_was_off():
    assert gc.isenabled()
    gc.disable()
    try:
        check_backend()
        assert not gc.isenabled()
    finally:
        gc.enable()
