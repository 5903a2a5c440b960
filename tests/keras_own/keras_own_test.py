"""Keras' own tests of models, trainer, callbacks, saving and optimizers pass with our classes.

`substitution.py` puts our classes in place of Keras', `expected.json` lists the tests that must
then fail, with the reason. The list is for one version of Keras.
"""

import json
import os
import pathlib
import subprocess
import sys

import keras
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXPECTED = json.loads((pathlib.Path(__file__).parent / "expected.json").read_text("utf-8"))
KERAS = pathlib.Path(keras.__file__).parent / "src"
FOLDERS = ("models", "trainers", "callbacks", "saving", "optimizers")
# They know none of the classes, and need packages such as torch.
IGNORED = "trainers/data_adapters"


def run(names, folder, *, substituted=True):
    """Runs tests of Keras in a process; returns the messages of those that failed, by name."""
    failures = folder / "failures.jsonl"
    failures.unlink(missing_ok=True)
    plugins = ["failures", "substitution"] if substituted else ["failures"]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={KERAS}"),
            *(f"-ptests.keras_own.{plugin}" for plugin in plugins),
            *("-pno:cacheprovider", "--import-mode=importlib", "--continue-on-collection-errors"),
            f"--ignore={KERAS / IGNORED}",
            *(str(KERAS / name) for name in names),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": keras.backend.backend(),
            "KERAS_OWN_FAILURES": str(failures),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED), done.stdout
    print(*names, "with our classes:" if substituted else "with Keras':", end=" ")
    print(done.stdout.splitlines()[-1])  # how many passed and failed; `pytest -rP` shows it
    lines = failures.read_text("utf-8").splitlines() if failures.exists() else []
    return dict(map(json.loads, lines))


def expected_failures(folder):
    """The names of the tests of a folder that must fail on this backend."""
    backend = keras.backend.backend()
    return {
        name
        for entry in EXPECTED["differences"]
        if backend in entry["backends"]
        for name in entry["tests"]
        if name.startswith(f"{folder}/")
    }


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS)
def test_keras_own_tests_pass_or_differ_as_expected(folder, tmp_path):
    if keras.__version__ != EXPECTED["keras"]:
        pytest.skip(f"the list is for Keras {EXPECTED['keras']}; this is {keras.__version__}")
    if folder not in EXPECTED["recorded"][keras.backend.backend()]:
        pytest.skip(f"no list yet of what differs in {folder} on {keras.backend.backend()}")
    if not list((KERAS / folder).glob("*_test.py")):
        pytest.skip("this Keras was installed without its tests")
    failed, expected = run([folder], tmp_path), expected_failures(folder)
    unexpected = sorted(failed.keys() - expected)
    if unexpected:
        # What fails with Keras' own classes too, such as for a missing package, is no difference.
        unexpected = sorted(set(unexpected) - run(unexpected, tmp_path, substituted=False).keys())
    assert {name: failed[name] for name in unexpected} == {}, "failed, but not in expected.json"
    assert sorted(expected - failed.keys()) == [], "in expected.json, but passed"


def test_every_expected_difference_has_a_reason_and_is_listed_once():
    tests = [
        (backend, name)
        for entry in EXPECTED["differences"]
        for backend in entry["backends"]
        for name in entry["tests"]
    ]
    assert len(set(tests)) == len(tests)
    assert all(entry["reason"] and entry["tests"] for entry in EXPECTED["differences"])
    assert {name.partition("/")[0] for _, name in tests} <= set(FOLDERS)
