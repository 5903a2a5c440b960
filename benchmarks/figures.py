"""What is measured: one function for each letter, from a `Plan` to a list of `Figure`.

The letters are those of docs/performance.md, which says how to read the figures.
"""

import functools
import os
import pathlib
import tempfile
import unittest.mock

import keras
import numpy as np

import keras_svag
from benchmarks import device_loop, memory, networks, pytorch, startup
from benchmarks.processes import Peer, in_fresh_process
from benchmarks.tensorflow import BareLoop, gradient_side, step_side
from benchmarks.timing import Figure, Side, alternate, compare, figure_of, timed
from keras_svag.device_loop import DeviceTrainLoop
from keras_svag.xla_policy.tensorflow import (
    JIT_ALL,
    JIT_ALL_BUT_CONVOLUTIONS,
    JIT_NONE,
    jit_scope_of,
)

# Steps in one program or group; as many as a study takes at a time is 512.
STEPS = 512
MEMORY_STEPS = 4
MLP, PRERESNET = "mlp", "preresnet"


def _title(name, batch_size, **options):
    words = [f"{key} {value}" for key, value in options.items()]
    return ", ".join([f"{name} B={batch_size}", *words])


def _fit_side(name, model, data, batch_size, callbacks=None):
    def run(count):
        model.fit(*data, batch_size=batch_size, epochs=count, verbose=0, callbacks=callbacks)

    return Side(name, timed(run), len(data[0]) // batch_size)


def _device_side(name, model, data, rows):
    loop = DeviceTrainLoop(model, data, len(rows))
    return Side(name, timed(lambda count: [loop.run(rows) for _ in range(count)]), len(rows))


def _settings(plan, batch_size=32):
    """The networks of a comparison with plain Keras: name, B, options."""
    if plan.quick:
        return [(MLP, 4, {}), (PRERESNET, 2, {"depth": 8, "norm": "batch"})]
    return [
        (MLP, 8, {}),
        (MLP, 32, {}),
        (PRERESNET, batch_size, {"depth": 14, "norm": "batch"}),
        (PRERESNET, batch_size, {"depth": 14, "norm": "group"}),
    ]


def against_plain_steps(plan):
    """a: one SVAG step, noise and signal on, against two plain steps at B."""
    figures = []
    for name, batch_size, options in _settings(plan):
        title = _title(name, batch_size, **options)
        data = networks.examples(name, 2 * batch_size)
        chosen = jit_scope_of(networks.plain(name, **options))
        for jit_scope in dict.fromkeys([JIT_ALL, chosen]):
            figures.append(_step_against_plain(plan, name, data, options, title, jit_scope))
        # A step with convolutions takes so long that reading batches beside it costs nothing.
        executions = [] if name == PRERESNET else [4] if plan.quick else [1, 50]
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
        _fit_side("SVAG", networks.svag(name, k, **options), data, 2 * batch_size),
        _fit_side("plain", networks.plain(name, 2 * k, **options), data, batch_size),
    )
    title = f"{title}, fit with steps_per_execution={k}"
    return compare("a", title, *sides, plan, per=2, target="<= 1.0")


def bare_loop_and_ours(batch_size, steps=STEPS, count=1437):
    """The two sides of b: `DeviceTrainLoop` and the hand-written loop, from the same weights.

    Returns:
        A tuple `(model, loop, bare, rows)`.
    """
    data = networks.examples(MLP, count)
    rows = networks.row_table(count, steps, batch_size)
    model = networks.svag(MLP)
    bare = BareLoop(
        model.get_weights(), data, networks.LEARNING_RATE, networks.ELL, networks.WEIGHT_DECAY
    )
    return model, DeviceTrainLoop(model, data, steps), bare, rows


def against_bare_loop(plan):
    """b: our loops with all metrics against what XLA can do, and against Keras' own loop."""
    figures = []
    steps = 16 if plan.quick else STEPS
    batch_sizes = [4] if plan.quick else [8, 32, 256]
    if keras.backend.backend() != "tensorflow":
        batch_sizes = []  # the loop by hand is one of TensorFlow
    for batch_size in batch_sizes:
        _, loop, bare, rows = bare_loop_and_ours(batch_size, steps)
        ours = Side("device loop", timed(_repeat(loop.run, rows)), steps)
        floor = Side("bare loop", timed(_repeat(bare.run, rows)), steps)
        title = _title(MLP, batch_size)
        figures.append(compare("b", title, ours, floor, plan, target="<= 1.3"))
    for batch_size in [4] if plan.quick else [8, 32]:
        figures.append(_fit_against_keras_loop(plan, batch_size))
    return figures


def _repeat(function, *arguments):
    return lambda count: [function(*arguments) for _ in range(count)]


def _fit_against_keras_loop(plan, batch_size):
    k = 4 if plan.quick else 50
    data = networks.examples(MLP, 2 * batch_size * k * 8)
    ours, theirs = networks.svag(MLP, k), networks.svag(MLP, k)
    # The function that Keras makes for the very same step; `fit` keeps it.
    keras.Model.make_train_function(theirs, force=True)
    sides = (
        _fit_side("one XLA program", ours, data, 2 * batch_size),
        _fit_side("Keras' loop over steps", theirs, data, 2 * batch_size),
    )
    title = f"{_title(MLP, batch_size)}, fit with steps_per_execution={k}"
    return compare("b", title, *sides, plan, target="< 1")


def against_pytorch(plan):
    """c: the same work in PyTorch, as the authors do it, in a process beside ours."""
    if not pytorch.is_installed():
        print("c is skipped: PyTorch is not installed (pip install torch).")
        return []
    settings = [(MLP, 8, {}), (MLP, 32, {}), (PRERESNET, 128, {"depth": 32, "norm": "batch"})]
    if plan.quick:
        settings = [(MLP, 4, {}), (PRERESNET, 2, {"depth": 8, "norm": "batch"})]
    figures = []
    for name, batch_size, options in settings:
        figures += _against_pytorch(plan, name, batch_size, options)
    return figures


def _against_pytorch(plan, name, batch_size, options):
    steps = 16 if plan.quick else STEPS if name == MLP else 1
    data = networks.examples(name, networks.COUNT)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    layouts = {"": False, ", channels last": True} if name == PRERESNET else {"": False}
    ours = Peer(device_loop.build, name, batch_size, steps, options)
    theirs = {
        f"PyTorch{words}": Peer(
            pytorch.build, networks.pytorch_setting(name, data, channels_last, **options), rows
        )
        for words, channels_last in layouts.items()
    }
    target = "<= 0.2" if name == MLP else "<= 1.0"
    try:
        return [
            compare(
                "c",
                _title(name, batch_size, **options),
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
    """How many extra batches an epoch the authors' code measures N and G with."""
    return max(200, 12800 // batch_size)


def cost_of_noise(plan):
    """d: noise and signal on against off, and a separate measurement against none."""
    figures = []
    for name, batch_size, options in _settings(plan):
        title = _title(name, batch_size, **options)
        count, epoch = (networks.COUNT, 50_000) if name == PRERESNET else (1437, 1437)
        data = networks.examples(name, count)
        steps = 2 if name == PRERESNET else 16 if plan.quick else STEPS
        rows = networks.row_table(count, steps, batch_size)
        sides = [
            _device_side(
                f"noise {word}", networks.svag(name, measure_noise=on, **options), data, rows
            )
            for word, on in (("on", True), ("off", False))
        ]
        target = "<= 1.03" if name == PRERESNET else "<= 1.15"
        figures.append(compare("d", title, *sides, plan, target=target))
        half = tuple(array[:batch_size] for array in data)
        gradient = gradient_side("gradient at B", networks.plain(name, **options), half)
        extra = separate_measurement_batches(batch_size) / (epoch / (2 * batch_size))
        figures.append(_separate_measurement(title, gradient, sides[1], extra, plan))
    return figures


def _separate_measurement(title, gradient, step, extra, plan):
    """A step without noise, plus its share of the extra gradients of an epoch, against itself."""
    times = alternate([gradient, step], plan.repeats, plan.seconds) * 1e6
    times[:, 0] = times[:, 1] + extra * times[:, 0]
    title = f"{title}, {extra:.2f} extra gradients a step"
    return figure_of("d", title, ("separate measurement", step.name), times)


def study(plan):
    """e: whole studies with two worker processes against one process, and their runs alone.

    The default study is one that a user waits for; with four times the seeds what is done once
    (start, report) weighs less, and what many runs at once gain is seen.
    """
    if plan.quick:
        return _study(plan, "configs/digits.py:quick", 1)
    return [
        *_study(plan, "configs/digits.py", 4),
        *_study(plan, "configs/digits.py", 16),
    ]


def _study(plan, config, seeds):
    def seconds(workers):
        with tempfile.TemporaryDirectory() as folder:
            whole = startup.seconds_of(
                "-m",
                "trainers.sde_validity",
                f"--config={config}",
                f"--config.num_workers={workers}",
                f"--config.num_seeds={seeds}",
                f"--config.max_num_seeds={seeds}",
                f"--workdir={folder}",
            )
            # Written just before the first run and just after the last one.
            files = (pathlib.Path(folder) / f"{name}.json" for name in ("verdict", "environment"))
            end, start = (file.stat().st_mtime for file in files)
            return whole, end - start

    times = np.array([[seconds(1), seconds(2)] for _ in range(plan.few)])
    return [
        Figure(
            "e",
            f"sde_validity, {config}, {seeds} seeds, {part}",
            "one by one",
            "2 at once",
            (times[:, 0, i] / times[:, 1, i]).tolist(),
            *times[:, :, i].T.tolist(),
            "s",
            ">= 1.7",
        )
        for i, part in enumerate(["from start to report", "its runs alone"])
    ]


def growth(plan):
    """f: step time against ell, B, depth and width; peak memory against plain steps."""
    return [
        *_growth_with_ell(plan),
        *_growth_of_time(plan),
        *(_growth_of_memory(plan) if memory.is_supported() else ()),
    ]


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
        words = ", ".join(f"{key}={value:g}" for key, value in options.items())
        name = f"B={batch_size}, {words}"
        return _device_side(name, networks.svag(MLP, **options), data, rows)

    figures = []
    for key, value in changes:
        title = f"mlp, {key} {base[key]:g} -> {value:g}"
        first, second = side(**{**base, key: value}), side(**base)
        figures.append(compare("f", title, first, second, plan))
    return figures


def _growth_with_ell(plan):
    """One program, of which ell is a variable: two programs may differ by where they lie."""
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


def _growth_of_memory(plan):
    settings = [
        (PRERESNET, 128, {"depth": 14, "norm": "batch"}),
        (PRERESNET, 128, {"depth": 14, "norm": "group"}),
        (MLP, 128, {"width": 32, "depth": 4}),
    ]
    if plan.quick:
        settings = [(MLP, 32, {"width": 8})]
    figures = []
    for name, batch_size, options in settings:
        measure = functools.partial(_peaks, name, options, plan.few)
        ours = measure("svag", batch_size, measure_noise=True)
        others = {
            "noise off": measure("svag", batch_size, measure_noise=False),
            "plain step at B": measure("plain", batch_size),
            "plain step at 2B": measure("plain", 2 * batch_size),
        }
        for label, theirs in others.items():
            for kind in ("planned", "measured"):
                a, b = ([peaks[kind] for peaks in side] for side in (ours, theirs))
                title = f"peak memory {kind}, {_title(name, batch_size, **options)}"
                ratios = [x / y for x, y in zip(a, b)]
                figures.append(Figure("f", title, "SVAG step", label, ratios, a, b, "MB"))
    return figures


def _peaks(name, options, repeats, kind, batch_size, **more):
    arguments = (kind, name, batch_size, MEMORY_STEPS, {**options, **more})
    # With oneDNN TensorFlow keeps what it has once had, and nothing would be seen to rise.
    with unittest.mock.patch.dict(os.environ, TF_ENABLE_ONEDNN_OPTS="0"):
        return [in_fresh_process(memory.peaks_of_steps, *arguments) for _ in range(repeats)]


def start_up(plan):
    """g: import time and time to the first step, whole processes from start to end."""
    repeats = 1 if plan.quick else plan.few + 2
    programs = {
        "import": ("import keras_svag", "keras_svag", "import keras", "keras"),
        "first step of fit, mlp B=8": (
            startup.first_step("svag", MLP, 16),
            "SVAG",
            startup.first_step("plain", MLP, 8),
            "plain",
        ),
    }
    figures = []
    for title, (first, name, second, other) in programs.items():
        times = [
            [startup.seconds_of("-c", program) for program in (first, second)]
            for _ in range(repeats)
        ]
        a, b = np.array(times).T
        figures.append(
            Figure("g", title, name, other, (a / b).tolist(), a.tolist(), b.tolist(), "s")
        )
    return figures


def advisor(plan):
    """h: an ordinary fit with `BatchSizeAdvisor` against plain Keras on the same batches."""
    batch_size, count, options = (8, 2, {"depth": 8}) if plan.quick else (64, 8, {"depth": 14})
    data = networks.examples(PRERESNET, count * batch_size)
    ours, theirs = networks.advised(PRERESNET, **options), networks.plain(PRERESNET, **options)
    callback = keras_svag.callbacks.BatchSizeAdvisor(verbose=0)
    sides = (
        _fit_side("with advisor", ours, data, batch_size, [callback]),
        _fit_side("plain Keras", theirs, data, batch_size),
    )
    title = f"{_title(PRERESNET, batch_size // 2, **options)}, advisor in fit"
    return [compare("h", title, *sides, plan, target="<= 1.03")]


def convolutions(plan):
    """i: what XLA compiles of a network with convolutions on a CPU: parts against the whole."""
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
            for jit_scope in (JIT_ALL, JIT_NONE, JIT_ALL_BUT_CONVOLUTIONS)
        )
        title = _title(PRERESNET, batch_size, **options)
        figures += [compare("i", title, part, whole, plan) for part in parts]
    return figures


def _side_compiled_as(jit_scope, options, data, rows):
    with unittest.mock.patch(
        "keras_svag.device_loop.tensorflow.jit_scope_of", lambda model: jit_scope
    ):
        return _device_side(f"{jit_scope} by XLA", networks.svag(PRERESNET, **options), data, rows)


BENCHMARKS = {
    "a": against_plain_steps,
    "b": against_bare_loop,
    "c": against_pytorch,
    "d": cost_of_noise,
    "e": study,
    "f": growth,
    "g": start_up,
    "h": advisor,
    "i": convolutions,
}
