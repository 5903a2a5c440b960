"""The benchmarks by the letters of docs/benchmarks.md: functions of a `Plan` to `Figure`s."""

import functools
import unittest.mock

import keras

from benchmarks import advice, memory, programs
from benchmarks.processes import Peer
from benchmarks.sides import device_loop, networks, pytorch
from benchmarks.sides.tensorflow import bare_loop_and_ours, gradient_side, step_side
from benchmarks.timing import Side, alternate, compare, figure_of, fit_side, timed
from keras_svag.device_loop import DeviceTrainLoop
from keras_svag.xla_policy import tensorflow as policy

STEPS = 512  # in one program, as in studies
MLP, PRERESNET, SMALL_PRERESNET, GPT = "mlp", "preresnet", "preresnet_16x16", "gpt"


def _device_side(name, model, data, rows):
    loop = DeviceTrainLoop(model, data, len(rows))
    return Side(name, timed(lambda count: [loop.run(rows) for _ in range(count)]), len(rows))


def _settings(plan):
    """Returns the networks of a comparison with plain Keras: name, B, options."""
    if plan.quick:
        return [(MLP, 4, {}), (PRERESNET, 2, {"depth": 8, "norm": "batch"})]
    return [
        (MLP, 8, {}),
        (MLP, 32, {}),
        (PRERESNET, 32, {"depth": 14, "norm": "batch"}),
        (PRERESNET, 32, {"depth": 14, "norm": "group"}),
    ]


def against_plain_steps(plan):
    """a: one SVAG step with noise and signal against two plain steps at B."""
    figures = []
    gpts = [] if plan.quick else [(GPT, 8, {"depth": 2})]
    for name, batch_size, options in _settings(plan) + gpts:
        title = networks.title(name, batch_size, **options)
        data = networks.examples(name, 2 * batch_size)
        default_scope = policy.jit_scope_of(networks.plain(name, **options))
        for jit_scope in dict.fromkeys([policy.JIT_ALL, default_scope]):
            figures.append(_step_against_plain(plan, name, data, options, title, jit_scope))
        # Beside a larger step the cost of reading batches is negligible.
        executions = [] if name != MLP else [4] if plan.quick else [1, 50]
        for k in executions:
            figures.append(_fit_against_plain(plan, name, batch_size, options, title, k))
    return figures


def _step_against_plain(plan, name, data, options, title, jit_scope):
    half = tuple(array[: len(array) // 2] for array in data)
    sides = (
        step_side("SVAG step", networks.svag(name, **options), data, jit_scope=jit_scope),
        step_side("plain step", networks.plain(name, **options), half, jit_scope=jit_scope),
    )
    title = f"{title}, compiled step alone, {jit_scope} by XLA"
    return compare("a", title, *sides, plan, per=2, target="<= 1.0")


def _fit_against_plain(plan, name, batch_size, options, title, k):
    groups = 8 if plan.quick else 400
    data = networks.examples(name, 2 * batch_size * groups)
    sides = (
        fit_side("SVAG", networks.svag(name, k, **options), data, 2 * batch_size),
        fit_side("plain", networks.plain(name, 2 * k, **options), data, batch_size),
    )
    title = f"{title}, fit with steps_per_execution={k}"
    return compare("a", title, *sides, plan, per=2, target="<= 1.0")


def against_bare_loop(plan):
    """b: our loops with all metrics against a hand-written XLA loop and Keras' own loop."""
    figures = []
    steps = 16 if plan.quick else STEPS
    batch_sizes = [4] if plan.quick else [8, 32, 256]
    if keras.backend.backend() != "tensorflow":
        batch_sizes = []  # the hand-written loop is in TensorFlow
    for batch_size in batch_sizes:
        _, loop, bare, rows = bare_loop_and_ours(batch_size, steps)
        ours = Side("device loop", timed(_repeat(loop.run, rows)), steps)
        floor = Side("bare loop", timed(_repeat(bare.run, rows)), steps)
        figures.append(
            compare("b", networks.title(MLP, batch_size), ours, floor, plan, target="<= 1.3")
        )
    for batch_size in [4] if plan.quick else [8, 32]:
        figures.append(_fit_against_keras_loop(plan, batch_size))
    return figures


def _repeat(function, *arguments):
    return lambda count: [function(*arguments) for _ in range(count)]


def _fit_against_keras_loop(plan, batch_size):
    k = 4 if plan.quick else 50
    data = networks.examples(MLP, 2 * batch_size * k * 8)
    ours, theirs = networks.svag(MLP, k), networks.svag(MLP, k)
    # `fit` keeps this function, which Keras makes for the same step.
    keras.Model.make_train_function(theirs, force=True)
    sides = (
        fit_side("one XLA program", ours, data, 2 * batch_size),
        fit_side("Keras' loop over steps", theirs, data, 2 * batch_size),
    )
    title = f"{networks.title(MLP, batch_size)}, fit with steps_per_execution={k}"
    return compare("b", title, *sides, plan, target="< 1")


def against_pytorch(plan):
    """c: the same work in PyTorch, as in the authors' code, in a separate process."""
    if not pytorch.is_installed():
        print("c is skipped: PyTorch is not installed (pip install torch).")
        return []
    settings = [
        (MLP, 8, {}),
        (MLP, 32, {}),
        *(
            (SMALL_PRERESNET, b, {"depth": 8, "norm": n})
            for n in ("group", "batch")
            for b in (16, 128)
        ),
        (PRERESNET, 128, {"depth": 32, "norm": "batch"}),
    ]
    if plan.quick:
        settings = [(MLP, 4, {}), (PRERESNET, 2, {"depth": 8, "norm": "batch"})]
    figures = []
    for name, batch_size, options in settings:
        figures += _against_pytorch(plan, name, batch_size, options)
    return figures


def _against_pytorch(plan, name, batch_size, options):
    steps = 16 if plan.quick else STEPS if name == MLP else max(1, 128 // batch_size)
    data = networks.examples(name, networks.COUNT)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    layouts = {"": False} if name == MLP else {"": False, ", channels last": True}
    ours = Peer(device_loop.build, name, batch_size, steps, options)
    theirs = {
        f"PyTorch{label}": Peer(
            pytorch.build, networks.pytorch_setting(name, data, channels_last, **options), rows
        )
        for label, channels_last in layouts.items()
    }
    target = "<= 0.2" if name == MLP else "<= 1.0"
    try:
        return [
            compare(
                "c",
                networks.title(name, batch_size, **options),
                Side("ours", ours.run, steps),
                Side(label, peer.run, steps),
                plan,
                target=target,
            )
            for label, peer in theirs.items()
        ]
    finally:
        for peer in (ours, *theirs.values()):
            peer.stop()


def separate_measurement_batches(batch_size):
    """Returns the extra batches per epoch on which the authors' code measures N and G."""
    return max(200, 12800 // batch_size)


def cost_of_noise(plan):
    """d: noise and signal against none, and a separate measurement against none."""
    figures = []
    for name, batch_size, options in _settings(plan):
        title = networks.title(name, batch_size, **options)
        count, epoch = (networks.COUNT, 50_000) if name == PRERESNET else (1437, 1437)
        data = networks.examples(name, count)
        steps = 2 if name == PRERESNET else 16 if plan.quick else STEPS
        rows = networks.row_table(count, steps, batch_size)
        sides = [
            _device_side(
                f"noise {state}", networks.svag(name, measure_noise=on, **options), data, rows
            )
            for state, on in (("on", True), ("off", False))
        ]
        target = "<= 1.03" if name == PRERESNET else "<= 1.15"
        figures.append(compare("d", title, *sides, plan, target=target))
        half = tuple(array[:batch_size] for array in data)
        gradient = gradient_side("gradient at B", networks.plain(name, **options), half)
        extra = separate_measurement_batches(batch_size) / (epoch / (2 * batch_size))
        figures.append(_separate_measurement(title, gradient, sides[1], extra, plan))
    return figures


def _separate_measurement(title, gradient, step, extra, plan):
    """A step without noise plus its part of the epoch's extra gradients, against the step alone."""
    times = alternate([gradient, step], plan.repeats, plan.seconds) * 1e6
    times[:, 0] = times[:, 1] + extra * times[:, 0]
    title = f"{title}, {extra:.2f} extra gradients a step"
    return figure_of("d", title, ("separate measurement", step.name), times)


def growth(plan):
    """f: step time against ell, B, depth and width; peak memory against plain steps."""
    figures = _growth_with_ell(plan) + _growth_of_time(plan)
    return figures + (memory.growth_of_memory(plan) if memory.is_supported() else [])


def _growth_of_time(plan):
    base = {"batch_size": 8, "depth": 2, "width": 1}
    changes = [("batch_size", 16)]
    if not plan.quick:
        changes = [("batch_size", v) for v in (16, 32, 128, 512)]
        changes += [("depth", v) for v in (4, 8)] + [("width", v) for v in (2, 4, 8, 16)]
    steps = 16 if plan.quick else 64
    data = networks.examples(MLP, 1437)

    @functools.cache
    def side(batch_size, **options):
        rows = networks.row_table(1437, steps, batch_size)
        name = ", ".join([f"B={batch_size}", *(f"{k}={v:g}" for k, v in options.items())])
        return _device_side(name, networks.svag(MLP, **options), data, rows)

    figures = []
    for key, value in changes:
        title = f"mlp, {key} {base[key]:g} -> {value:g}"
        first, second = side(**{**base, key: value}), side(**base)
        figures.append(compare("f", title, first, second, plan))
    return figures


def _growth_with_ell(plan):
    # One program with ell as a variable: two programs may differ by their place in memory.
    model = networks.svag(MLP, ell=1.0)
    rows = networks.row_table(1437, STEPS, 8)
    loop = DeviceTrainLoop(model, networks.examples(MLP, 1437), len(rows))

    def side(ell):
        def run(count):
            model.optimizer.ell = ell
            for _ in range(count):
                loop.run(rows)

        return Side(f"B=8, ell={ell:g}", timed(run), len(rows))

    return [
        compare("f", f"mlp, ell 1 -> {ell:g}", side(ell), side(1.0), plan, target="1.0")
        for ell in (4.0, 64.0)
    ]


def convolutions(plan):
    """i: XLA for parts of a network with convolutions against XLA for all of it, on a CPU."""
    if keras.backend.backend() != "tensorflow":
        return []
    settings = [({"depth": 8, "norm": "group"}, 2)]
    if not plan.quick:
        norms = ("batch", "group", "layer")
        settings = [({"depth": 14, "norm": norm}, 32) for norm in norms]
        settings += [({"depth": 32, "norm": norm}, 128) for norm in ("batch", "group")]
    data = networks.examples(PRERESNET, networks.COUNT)
    figures = []
    for options, batch_size in settings:
        rows = networks.row_table(networks.COUNT, 2, batch_size)
        whole, *parts = (
            _side_compiled_as(jit_scope, options, data, rows)
            for jit_scope in (policy.JIT_ALL, policy.JIT_NONE, policy.JIT_ALL_BUT_CONVOLUTIONS)
        )
        title = networks.title(PRERESNET, batch_size, **options)
        figures += [compare("i", title, part, whole, plan) for part in parts]
    return figures


def _side_compiled_as(jit_scope, options, data, rows):
    target = "keras_svag.device_loop.tensorflow.jit_scope_of"
    with unittest.mock.patch(target, lambda model: jit_scope):
        return _device_side(f"{jit_scope} by XLA", networks.svag(PRERESNET, **options), data, rows)


BENCHMARKS = {
    "a": against_plain_steps,
    "b": against_bare_loop,
    "c": against_pytorch,
    "d": cost_of_noise,
    "e": programs.study,
    "f": growth,
    "g": programs.start_up,
    "h": advice.advisor,
    "i": convolutions,
    "j": advice.noise_of_micro_batches,
}
