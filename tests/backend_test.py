"""Tests of keras_svag/_backend.py: which backends are refused, and with what words."""

import os
import subprocess
import sys

import keras
import pytest

from keras_svag._backend import check_backend


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
