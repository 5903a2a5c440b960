"""PreResNet-32 at B = 128 on a GPU: ours on JAX against PyTorch, in milliseconds a step.

    pip install -e ".[jax-cuda,benchmarks]"
    KERAS_BACKEND=jax python -m benchmarks.gpu
    KERAS_BACKEND=jax python -m benchmarks.gpu --quick    # does it run? On a CPU; means nothing.

First it checks that both sides take the same steps; then it times them in turns, each in a process
of its own, and says what fraction of a step its convolutions alone would take at the speed of a
large matrix product. TensorFlow is not needed. Both sides multiply float32 as they do by default:
in convolutions on recent GPUs that is TF32.
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
# Of the distance that the kernels move in these steps; TF32 has three digits.
LARGEST_DIFFERENCE = 0.05
PRODUCTS = 20


@dataclasses.dataclass(frozen=True)
class Work:
    """What both sides do.

    Args:
        depth: of the network.
        batch_size: B.
        steps: how many steps in one round.
        device: where PyTorch runs, `"cuda"` or `"cpu"`; JAX runs where it does by default.
    """

    depth: int = 32
    batch_size: int = 128
    steps: int = 64
    device: str = "cuda"

    @property
    def options(self):
        """Arguments of the network."""
        return {"depth": self.depth, "norm": "batch"}


def flops_of_step(model, batch_size):
    """Floating point operations of the layers with a kernel in one SVAG step.

    Args:
        model: a functional `keras.Model`.
        batch_size: B; a step has 2B examples.

    Returns:
        An int: two for each product that is added up in the forward pass, in the gradient of each
        kernel that is trained, and in that of each input but the network's own.
    """
    total, passes_to_input = 0, 0
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            products = math.prod(layer.output.shape[1:-1]) * math.prod(layer.kernel.shape)
            total += 2 * products * (1 + bool(layer.trainable) + passes_to_input)
            passes_to_input = 1
    return 2 * batch_size * total


def flops_per_second(size):
    """Speed of products of square float32 matrices, as JAX multiplies them by default."""
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
    """Raises if PyTorch and we do not arrive at the same kernels.

    Args:
        work: a `Work`.

    Returns:
        A float: the distance between the kernels of both sides, over that which they have moved.

    Raises:
        RuntimeError: if it is more than `LARGEST_DIFFERENCE`.
    """
    from benchmarks import device_loop, networks, pytorch
    from benchmarks.processes import in_fresh_process

    rows = networks.row_table(networks.COUNT, CHECKED_STEPS, work.batch_size)
    theirs = in_fresh_process(pytorch.kernels_after, _setting(work), rows)
    arguments = (NETWORK, work.batch_size, CHECKED_STEPS, work.options)
    before, ours = in_fresh_process(device_loop.kernels_after, *arguments)

    def distance(first, second):
        return math.sqrt(sum(np.sum((first[name] - second[name]) ** 2) for name in first))

    difference = distance(ours, theirs) / distance(ours, before)
    if not difference <= LARGEST_DIFFERENCE:
        raise RuntimeError(
            f"PyTorch's kernels are {difference:.2g} of their way from ours after {CHECKED_STEPS} "
            f"steps, more than {LARGEST_DIFFERENCE}: the two sides do not do the same work."
        )
    return difference


def _setting(work, **options):
    from benchmarks import networks

    data = networks.examples(NETWORK, networks.COUNT)
    return networks.pytorch_setting(NETWORK, data, device=work.device, **options, **work.options)


def measure(work, plan):
    """Times all sides.

    Args:
        work: a `Work`.
        plan: a `Plan`.

    Returns:
        A list of `Figure`: ours against PyTorch in each of its forms, and noise on against off.
    """
    from benchmarks import device_loop, networks, pytorch
    from benchmarks.processes import Peer

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
    """Milliseconds of a step of each side, and what fraction of them the arithmetic needs.

    Args:
        figures: list of `Figure`, all with the same numerator.
        flops: floating point operations of a step.
        speed: floating point operations a second of a large matrix product.

    Returns:
        A string of several lines.
    """
    times = {figures[0].numerator: np.concatenate([figure.numerators for figure in figures])}
    times |= {figure.denominator: np.array(figure.denominators) for figure in figures}
    lines = [f"{flops / 1e9:.1f} GFLOP a step; matrix products: {speed / 1e12:.3g} TFLOP/s"]
    for name, microseconds in times.items():
        milliseconds = np.median(microseconds) / 1e3
        share = flops / speed * 1e3 / milliseconds
        lines.append(f"{name}: {milliseconds:.4g} ms a step, of which arithmetic {share:.1%}")
    return "\n".join(lines)


def main(arguments=None):
    """Checks, measures, prints the tables and writes the JSON file.

    Args:
        arguments: list of strings. Defaults to `None`: those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="only see that everything runs")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("benchmarks_gpu.json"))
    options = parser.parse_args(arguments)
    # Several processes share the GPU; JAX would take three quarters of its memory for each.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from benchmarks import networks
    from keras_svag.engine.files.records import write_json
    from keras_svag.xla_policy import has_accelerator

    if not (has_accelerator() or options.quick):
        parser.error("Keras sees no accelerator; --quick shows on a CPU that everything runs.")
    work = Work(8, 2, 2, "cpu") if options.quick else Work()
    difference = check_same_steps(work)
    print(f"Both sides take the same steps: {difference:.2g} of their way apart.", flush=True)
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
