"""Compiles for accelerators that are not there, by JAX."""

import contextlib
import os
import time
import unittest.mock

import jax
import keras
import numpy as np
from jax.experimental import topologies

from keras_svag.accelerators import hlo
from keras_svag.accelerators.chips import parse_topology
from keras_svag.accelerators.counts import Counts
from keras_svag.accelerators.program import Program
from keras_svag.trainer.jax import state_of, values_of
from keras_svag.xla_policy import assume_accelerator

# Variables of libtpu: it does not ask the machine which TPU it has, and works in several processes.
COMPILE_ONLY = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}
THREE_DIMENSIONAL = ("v4", "v5p")


class Target:
    """Some chips of a topology, for which programs are compiled and counted.

    `chips` of them share each batch, as under `--strategy=tpu`; all by default. CUDA needs the text
    of a `target_config`, which describes the GPU.
    """

    def __init__(self, topology, chips=None, target_config=None):
        self.chip, count = parse_topology(topology)
        self.chips = count if chips is None else chips
        if not 1 <= self.chips <= count:
            raise ValueError(
                f"`chips` must be from 1 to {count}, those of the topology {topology!r}. "
                f"Received: chips={chips!r}"
            )
        self._devices = _find_devices(self.chip, topology, target_config)[: self.chips]

    @contextlib.contextmanager
    def tracing(self):
        """Traces as on the chips: what depends on them is chosen as there."""
        with assume_accelerator(self.chip.platform), contextlib.ExitStack() as stack:
            if self.chips > 1:
                stack.enter_context(
                    keras.distribution.DataParallel(devices=list(self._devices)).scope()
                )
            yield

    def compile(self, program):
        """Returns the `Counts` of a `Program`."""
        with self.tracing():
            arguments = self._abstract(program)
            lowered = program.function.lower(*arguments)
            start = time.perf_counter()
            executable = lowered.compile()
        return count(executable, time.perf_counter() - start)

    def train_program(self, model, batch):
        """Returns the `Program` of the step that `fit` takes on a batch."""
        state = values_of(state_of(model))
        # As `keras.Model.make_train_function` compiles it.
        shardings = None
        if self.chips > 1:
            shardings = (None, jax.tree.map(lambda _: self._sharding(()), state))
        function = jax.jit(model.train_step, donate_argnums=0, out_shardings=shardings)
        return Program(function, (state, batch), batches=(1,))

    def _sharding(self, axes):
        if self.chips == 1:
            return jax.sharding.SingleDeviceSharding(self._devices[0])
        mesh = jax.sharding.Mesh(np.array(self._devices), ("batch",))
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))

    def _abstract(self, program):
        """Returns the arguments as shapes on the chips; batches are cut over them."""
        abstract = []
        for index, argument in enumerate(program.arguments):
            sharding = self._sharding(("batch",) if index in program.batches else ())
            shapes = jax.eval_shape(lambda a: a, argument)
            abstract.append(jax.tree.map(lambda s, on=sharding: _with(s, on), shapes))
        return abstract


def _with(shape, sharding):
    return jax.ShapeDtypeStruct(
        shape.shape, shape.dtype, sharding=sharding, weak_type=shape.weak_type
    )


def _find_devices(chip, topology, target_config):
    if chip.platform == "gpu":
        options = {"target_config": target_config, "topology": "1x1x1"}
        return topologies.get_topology_desc(chip.name, "cuda", **options).devices
    with unittest.mock.patch.dict(os.environ, COMPILE_ONLY):
        try:
            name, options = _name_and_options(chip, topology)
            return topologies.get_topology_desc(name, "tpu", **options).devices
        except RuntimeError as error:
            if "not installed" in str(error):
                raise ValueError(
                    "`topology` of TPUs needs their compiler. "
                    f"Received: topology={topology!r}, but libtpu is not installed. "
                    'Use pip install "keras-svag[tpu-compile]".'
                ) from error
            raise ValueError(
                "`topology` must be one that the compiler for TPUs knows. "
                f"Received: topology={topology!r}, and it raised: {error}. Example: v5e:2x2."
            ) from error


def _name_and_options(chip, topology):
    """Returns the topology as the compiler calls it, and what it needs besides."""
    # On Google Cloud the two cores of a v4 work as one device.
    options = {"chip_config_name": "megacore"} if chip.name == "v4" else {}
    if parse_topology(topology)[1] > 1:
        return topology, options
    # A single chip is a part of a host.
    shape = "1x1x1" if chip.name in THREE_DIMENSIONAL else "1x1"
    return f"{chip.name}:{shape}", options | {"chips_per_host_bounds": (1, 1, 1)}


def count(executable, seconds):
    """Returns the `Counts` of an executable."""
    module = hlo.Module(executable.as_text())
    memory, cost = executable.memory_analysis(), executable.cost_analysis() or {}
    return Counts(
        flops=cost.get("flops"),
        bytes=cost.get("bytes accessed"),
        on_chip_bytes=hlo.count_on_chip_bytes(module),
        temporary_bytes=memory.temp_size_in_bytes,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        collectives=hlo.count_collectives(module),
        host_transfers=hlo.count_host_transfers(module),
        dynamic_shapes=hlo.count_dynamic_shapes(module),
        products=hlo.count_products(module),
        layout_copies=hlo.count_layout_copies(module),
        kernels=hlo.count_kernels(module),
        compile_seconds=round(seconds, 1),
        off_chip_bytes=hlo.count_off_chip_bytes(module),
    )
