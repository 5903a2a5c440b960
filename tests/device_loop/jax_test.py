"""`DeviceTrainLoop` on JAX: its compiled program, and the number of threads."""

import numpy as np
import pytest

from keras_svag.device_loop import DeviceTrainLoop
from tests.backends import run_code
from tests.device_loop.loop_test import ROWS, N, data, network

pytestmark = pytest.mark.requires_jax


@pytest.mark.parametrize("fuse_steps", [True, False])
def test_one_program_for_every_ell_and_seed_and_number_of_steps(fuse_steps):
    model = network()
    loop = DeviceTrainLoop(model, data(), 3, fuse_steps=fuse_steps)
    start = model.get_weights()
    ends = []
    for ell in (1.0, 2.0, 2.0):
        model.set_weights(start)
        model.optimizer.ell = ell
        loop.run(ROWS)
        ends.append(model.get_weights()[0])
    assert loop.num_traces == 1
    np.testing.assert_array_equal(ends[1], ends[2])
    assert np.abs(ends[0] - ends[1]).max() > 1e-3


def test_data_are_no_constants_of_the_program():
    model = network()
    loop = DeviceTrainLoop(model, data(), 3)
    loop.run(ROWS)
    values = [variable.value for variable in loop._variables]
    arguments = loop._data, ROWS[:3].astype("int32"), None, 3, True
    text = loop._program.program.lower(values, *arguments).as_text()
    assert f"%arg{len(values)}: tensor<{N}x6x6x1xf32>" in text
    constants = [line for line in text.splitlines() if "stablehlo.constant" in line]
    assert not any(f"tensor<{N}x6" in line for line in constants)


def test_rows_out_of_range_are_refused():
    loop = DeviceTrainLoop(network(), data(), 3)
    with pytest.raises(
        ValueError, match=f"`rows` must contain indices of the {N} examples.*from 0 to"
    ):
        loop.run(np.array([[0, 1, 2, N]]))


THREADS = """
import os, sys
from keras_svag.engine.processes.worker import limit_threads  # first of all, as in a worker process
import jax, jax.numpy as jnp

def threads():
    tasks = "/proc/self/task"
    names = [open(f"{tasks}/{task}/comm").read() for task in os.listdir(tasks)]
    return sum(not name.startswith("llvm-worker") for name in names)

before = threads()
limit_threads(int(sys.argv[1]))
jax.jit(lambda a: a @ a)(jnp.ones((500, 500))).block_until_ready()
print(threads() - before)
"""


def test_worker_process_has_the_threads_it_is_given():
    # XLA's client on the CPU has two pools, of as many threads each; importing the module of the
    # workers must not start it before it is told how many.
    one, three = (int(run_code(THREADS, count, backend="jax")) for count in (1, 3))
    assert three - one == 2 * (3 - 1)
