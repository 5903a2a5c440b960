"""PreResNet-32 at B = 128 on a GPU: keras_svag on JAX against PyTorch, in milliseconds per step.

    pip install -e ".[jax-cuda,benchmarks]"
    KERAS_BACKEND=jax python -m benchmarks.gpu
    KERAS_BACKEND=jax python -m benchmarks.gpu --quick    # a test on a CPU; figures mean nothing

First checks that both sides take the same steps, then times them alternately in separate processes.
The arithmetic of a step is what its convolutions would take at the speed of a large matrix product.
Both sides use their default precision: TF32 in convolutions on recent GPUs.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import time

import numpy as np

from benchmarks.run import environment, format_table
from benchmarks.timing import FULL, QUICK, Side, compare

NETWORK = "preresnet"
CHECKED_STEPS = 3
# Relative to the distance that the kernels move in these steps; TF32 has three digits.
LARGEST_DIFFERENCE = 0.05
PRODUCTS = 20


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of both sides."""

    depth: int = 32
    batch_size: int = 128
    steps: int = 64  # in one round
    device: str = "cuda"  # of PyTorch; JAX runs on its default device

    @property
    def options(self):
        """Returns the arguments of the network."""
        return {"depth": self.depth, "norm": "batch"}


def flops_of_step(model, batch_size):
    """Counts the floating point operations of one SVAG step in layers with a kernel."""
    # Two per product in the forward pass, in the gradient of each trained kernel, and in that of
    # each input except the network's.
    total, passes_to_input = 0, 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            products = math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
            total += 2 * products * (1 + bool(layer.trainable) + passes_to_input)
            passes_to_input = 1
    return 2 * batch_size * total


def flops_per_second(size):
    """Measures JAX's products of float32 matrices of `size` at default precision."""
    import jax

    matrix = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda a: a @ a)
    multiply(matrix).block_until_ready()
    start = time.perf_counter()
    for _ in range(PRODUCTS):
        product = multiply(matrix)
    product.block_until_ready()
    return PRODUCTS * 2 * size**3 / (time.perf_counter() - start)


def check_same_steps(work):
    """Returns the distance of PyTorch's kernels from ours, relative to their movement."""
    from benchmarks.processes import in_fresh_process
    from benchmarks.sides import device_loop, networks, pytorch

    rows = networks.row_table(networks.COUNT, CHECKED_STEPS, work.batch_size)
    theirs = in_fresh_process(pytorch.kernels_after, _setting(work), rows)
    arguments = (NETWORK, work.batch_size, CHECKED_STEPS, work.options)
    before, ours = in_fresh_process(device_loop.kernels_after, *arguments)

    def distance(first, second):
        return math.sqrt(sum(np.sum((first[name] - second[name]) ** 2) for name in first))

    difference = distance(ours, theirs) / distance(ours, before)
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(
            f"PyTorch's kernels must agree with ours after {CHECKED_STEPS} steps within "
            f"{LARGEST_DIFFERENCE} of the distance they moved. Received: {difference:.2g}"
        )
    return difference


def _setting(work, **options):
    from benchmarks.sides import networks

    data = networks.examples(NETWORK, networks.COUNT)
    return networks.pytorch_setting(NETWORK, data, device=work.device, **options, **work.options)


def measure(work, plan):
    """Times all sides; returns ours against each form of PyTorch and against noise off."""
    from benchmarks.processes import Peer
    from benchmarks.sides import device_loop, networks, pytorch

    forms = {"PyTorch": {}, "PyTorch, channels last": {"channels_last": True}}
    if not plan.quick:  # torch.compile takes a minute
        forms |= {f"{name}, compiled": form | {"compiled": True} for name, form in forms.items()}
    rows = networks.row_table(networks.COUNT, work.steps, work.batch_size)
    arguments = (NETWORK, work.batch_size, work.steps)
    peers = {
        "ours": Peer(device_loop.build, *arguments, work.options),
        "ours, noise off": Peer(
            device_loop.build, *arguments, work.options | {"measure_noise": False}
        ),
        **{name: Peer(pytorch.build, _setting(work, **form), rows) for name, form in forms.items()},
    }
    sides = {name: Side(name, peer.run, work.steps) for name, peer in peers.items()}
    title = f"{NETWORK} B={work.batch_size}, depth {work.depth}, norm batch"
    targets = {"ours, noise off": "<= 1.03"}
    try:
        return [
            compare("gpu", title, sides["ours"], side, plan, target=targets.get(name, "<= 1.0"))
            for name, side in sides.items()
            if name != "ours"
        ]
    finally:
        for peer in peers.values():
            peer.stop()


def format_milliseconds(figures, flops, speed):
    """Formats milliseconds per step of each side and their fraction due to arithmetic."""
    times = {figures[0].numerator: np.concatenate([figure.numerators for figure in figures])}
    times |= {figure.denominator: np.array(figure.denominators) for figure in figures}
    lines = [f"{flops / 1e9:.1f} GFLOP a step; matrix products: {speed / 1e12:.3g} TFLOP/s"]
    for name, microseconds in times.items():
        milliseconds = np.median(microseconds) / 1e3
        arithmetic = flops / speed * 1e3 / milliseconds
        lines.append(f"{name}: {milliseconds:.4g} ms a step, of which arithmetic {arithmetic:.1%}")
    return "\n".join(lines)


def main(arguments=None):
    """Checks, measures, prints the tables and writes a JSON file."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="test that everything runs")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("benchmarks_gpu.json"))
    options = parser.parse_args(arguments)
    # Several processes share the GPU; by default JAX preallocates three quarters of its memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from benchmarks.sides import networks
    from keras_svag.engine.files.records import write_json
    from keras_svag.xla_policy import has_accelerator

    if not (has_accelerator() or options.quick):
        parser.error("Keras must see an accelerator, except with --quick.")
    work = Work(8, 2, 2, "cpu") if options.quick else Work()
    difference = check_same_steps(work)
    print(f"Both sides take the same steps, within {difference:.2g} of them.", flush=True)
    figures = measure(work, QUICK if options.quick else FULL)
    flops = flops_of_step(networks.build(NETWORK, **work.options), work.batch_size)
    speed = flops_per_second(512 if options.quick else 8192)
    result = {
        "quick": options.quick,
        "environment": environment("benchmarks.gpu"),
        "difference": difference,
        "flops_of_step": flops,
        "flops_per_second": speed,
        "figures": [figure.as_dict() for figure in figures],
    }
    write_json(options.output, result)
    print(format_table(figures))
    print(format_milliseconds(figures, flops, speed))


if __name__ == "__main__":
    main()
