"""`--estimate`: what it prints, and what it says where it cannot."""

import importlib.util

import pytest

from tests.trainers.command import assert_refused, trainer

QUICK = "--config=configs/digits.py:quick"
HAS_COMPILER = importlib.util.find_spec("libtpu") is not None


@pytest.mark.requires_jax
@pytest.mark.skipif(HAS_COMPILER, reason="is about a machine without libtpu")
def test_without_the_compiler():
    done = trainer(QUICK, "--estimate")
    assert_refused(done, "libtpu is not installed", "keras-svag[tpu-compile]")


@pytest.mark.requires_tensorflow
def test_on_tensorflow():
    done = trainer(QUICK, "--estimate", KERAS_BACKEND="tensorflow")
    assert_refused(done, "the backend tensorflow", "KERAS_BACKEND=jax")


@pytest.mark.requires_jax
def test_wrong_topology():
    assert_refused(trainer(QUICK, "--estimate", "--topology=2x2"), "topology='2x2'", "'v5e'")


@pytest.mark.requires_jax
@pytest.mark.slow
@pytest.mark.skipif(not HAS_COMPILER, reason='needs pip install "keras-svag[tpu-compile]"')
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("sde_validity", QUICK),
        ("linear_scaling", QUICK),
        ("noisy_gradient_descent", QUICK),
        ("train", QUICK),
        ("weak_convergence", "--config=configs/weak_convergence.py:quick"),
    ],
)
def test_estimate_of_each_trainer(tmp_path, name, config):
    workdir = tmp_path / "untouched"
    done = trainer(config, "--estimate", "--topology=v5e:1x1", f"--workdir={workdir}", name=name)
    assert done.returncode == 0, done.stderr
    assert "Compiled for v5e:1x1; nothing was run." in done.stdout
    assert "chip-hours" in done.stdout and "GFLOP" in done.stdout
    assert not workdir.exists()
