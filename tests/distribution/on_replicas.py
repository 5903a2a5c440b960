"""Trains on virtual CPU devices and saves how it ended; one process for each number of replicas.

Arguments: the number of replicas, the `.npz` file to write, and names of functions of this file.
"""

import os
import pathlib
import subprocess
import sys

import keras
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
NUM_TRAIN, B, STEPS, ELL = 320, 8, 100, 4.0
FROZEN_STEPS, FROZEN_CHUNK = 500, 10
NOISE = ("gradient_noise", "gradient_signal", "noise_to_signal")


def on_replicas(replicas, path, *parts):
    """Runs this file in a process of its own, on the backend of this one.

    Args:
        replicas: number of virtual devices.
        path: `.npz` file for the results.
        *parts: names of the functions below that are to be called.

    Returns:
        What they returned, in one dict.
    """
    flags = f"--xla_force_host_platform_device_count={replicas}"
    command = [sys.executable, "-m", "tests.distribution.on_replicas"]
    done = subprocess.run(
        [*command, str(replicas), str(path), *parts],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with np.load(path) as results:
        return dict(results)


def make_virtual_devices(replicas):
    """Cuts the CPU into devices, before it is used."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(cpu, parts)


def compiled(model, **options):
    """The model, compiled with SVAG."""
    import keras_svag

    options = {"learning_rate": 0.2, "ell": ELL, "weight_decay": 5e-3, **options}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # XLA cannot run the replicas of TensorFlow on virtual CPU devices, with plain Keras neither.
    jit_compile = keras.backend.backend() == "jax"
    model.compile(keras_svag.SVAG(**options), loss, metrics=["accuracy"], jit_compile=jit_compile)
    return model


def some_digits():
    """A part of the digits: inputs and labels."""
    from keras_svag.datasets import digits

    data = digits()
    return data.train_x[:NUM_TRAIN], data.train_y[:NUM_TRAIN]


def network(**options):
    """The network of the digits study, the same in every process."""
    from keras_svag.models import mlp

    return mlp((8, 8), 10, seed=0, **options)


def indices(steps, seed=0):
    """The examples of each step, drawn with replacement."""
    return np.random.default_rng(seed).integers(NUM_TRAIN, size=(steps, 2 * B))


def named(prefix, values):
    """A dict of numbered arrays, for one file."""
    return {f"{prefix}_{i}": np.asarray(v) for i, v in enumerate(values)}


def fitted():
    """`fit` of an `SVAGModel`: weights, logs, and an evaluation."""
    import keras_svag

    x, y = some_digits()
    rows = indices(STEPS).reshape(-1)
    model = compiled(keras_svag.from_keras(network()))
    logs = model.fit(x[rows], y[rows], 2 * B, 1, 0, shuffle=False).history
    return {**named("fit", model.get_weights()), **{f"fit_{k}": v[0] for k, v in logs.items()}}


def paired():
    """`fit` of a plain model, which ends between the halves of a pair."""
    x, y = some_digits()
    rows = indices(10, seed=1).reshape(-1)[: 19 * B]
    model = compiled(network())
    model.fit(x[rows], y[rows], B, 1, 0, shuffle=False)
    stored = [keras.ops.convert_to_numpy(v) for v in model.optimizer._stored_gradients]
    return {
        **named("pair", model.get_weights()),
        **named("stored", stored),
        "pair_iterations": keras.ops.convert_to_numpy(model.optimizer.iterations),
    }


def resident():
    """The loop of the studies: weights, logs, and an evaluation with a rest that is not shared."""
    import keras_svag
    from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop

    data = some_digits()
    model = compiled(keras_svag.from_keras(network()))
    loop = DeviceTrainLoop(model, data, steps_per_call=32)
    steps, logs = loop.run(indices(STEPS))
    part = tuple(array[:103] for array in data)
    evaluated = DeviceEvaluation(model, part, batch_size=40).run()
    return {
        **named("resident", model.get_weights()),
        **{f"resident_{name}": value for name, value in logs.items()},
        **{f"evaluated_{name}": value for name, value in evaluated.items()},
        "resident_steps": steps,
        "resident_traces": loop.num_traces,
    }


def batch_norm():
    """Batch norm: trained weights, moving averages, an evaluation that uses them."""
    import keras_svag
    from keras_svag.device_loop import DeviceEvaluation, DeviceTrainLoop

    data = some_digits()
    model = compiled(keras_svag.from_keras(network(norm="batch")), learning_rate=0.05)
    DeviceTrainLoop(model, data, steps_per_call=32).run(indices(12, seed=2))
    evaluated = DeviceEvaluation(model, data, batch_size=NUM_TRAIN).run()
    return {**named("bn", model.get_weights()), "bn_loss": evaluated["loss"]}


def small_network(activation, *layers):
    """A network with layers after its hidden one, the same in every process."""
    seeded = keras.initializers.HeNormal(seed=1)
    return keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(32, use_bias=False, kernel_initializer=seeded),
            *layers,
            keras.layers.Activation(activation),
            keras.layers.Dense(10, kernel_initializer=seeded),
        ]
    )


def synchronized():
    """Batch norm with the statistics of the whole half, which JAX has always."""
    import keras_svag
    from keras_svag.device_loop import DeviceTrainLoop

    on_request = {"synchronized": True} if keras.backend.backend() == "tensorflow" else {}
    batch_norm = keras.layers.BatchNormalization(momentum=0.9, **on_request)
    model = keras_svag.from_keras(small_network("relu", batch_norm))
    compiled(model, learning_rate=0.05)
    DeviceTrainLoop(model, some_digits(), steps_per_call=32).run(indices(12, seed=2))
    return named("sync", model.get_weights())


def sampled():
    """`fit` of `SampledBatches`, and of the same examples in an array."""
    import keras_svag
    from keras_svag.datasets import SampledBatches, Sampler

    x, y = some_digits()
    rows = Sampler(NUM_TRAIN, B, seed=4).rows(0, 2 * NUM_TRAIN // (2 * B)).reshape(-1)
    by_sampler, by_array = (compiled(keras_svag.from_keras(network())) for _ in range(2))
    by_sampler.fit(SampledBatches(x, y, B, seed=4), epochs=2, verbose=0, shuffle=False)
    by_array.fit(x[rows], y[rows], 2 * B, 1, 0, shuffle=False)
    return {
        **named("sampled", by_sampler.get_weights()),
        **named("by_array", by_array.get_weights()),
    }


def mixed_precision():
    """Training in float16, whose optimizer Keras wraps in loss scaling."""
    import keras_svag
    from keras_svag.device_loop import DeviceTrainLoop

    keras.config.set_dtype_policy("mixed_float16")
    # Smooth: where ReLU has a corner a rounded number may fall on its other side.
    model = compiled(keras_svag.from_keras(small_network("tanh")))
    keras.config.set_dtype_policy("float32")
    before = model.get_weights()
    _, logs = DeviceTrainLoop(model, some_digits(), steps_per_call=32).run(indices(20, seed=5))
    return {
        **named("half", model.get_weights()),
        **named("half_moved", [b - a for a, b in zip(before, model.get_weights())]),
        **{f"half_{name}": value for name, value in logs.items()},
        "half_scale": keras.ops.convert_to_numpy(model.optimizer.dynamic_scale),
        "half_iterations": keras.ops.convert_to_numpy(model.optimizer.iterations),
    }


def overflow():
    """Steps whose gradient overflows in the last replica alone: after each, what there is."""
    import keras_svag
    from keras_svag.device_loop import DeviceTrainLoop

    inputs = keras.Input((3,))
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", dtype="mixed_float16")
    model = keras_svag.SVAGModel(inputs, dense(inputs))
    scaling = keras.optimizers.LossScaleOptimizer(
        keras_svag.SVAG(0.01, ell=ELL), initial_scale=2.0**20, dynamic_growth_steps=3
    )
    model.compile(scaling, "mse", jit_compile=keras.backend.backend() == "jax")
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2 * B, 3)), rng.normal(size=(2 * B, 1))
    # Of four replicas the last one has the last quarter; the loss of zeros has no gradient.
    x[: -B // 2], y[: -B // 2] = 0.0, 0.0
    data = (x.astype("float32"), y.astype("float32"))
    loop = DeviceTrainLoop(model, data, steps_per_call=1)
    results = {"iterations": [], "scale": [], "kernel": [], "noise": []}
    for _ in range(20):
        _, logs = loop.run(np.arange(2 * B)[None])
        results["iterations"].append(keras.ops.convert_to_numpy(scaling.iterations))
        results["scale"].append(keras.ops.convert_to_numpy(scaling.dynamic_scale))
        results["kernel"].append(each_replicas(dense.kernel))
        results["noise"].append(logs["gradient_noise"])
    return {f"overflow_{name}": values for name, values in results.items()}


def each_replicas(variable):
    """The values of a variable on all replicas."""
    if keras.backend.backend() == "jax":
        return [np.asarray(shard.data) for shard in variable.value.addressable_shards]
    import tensorflow as tf

    values = tf.distribute.get_strategy().experimental_local_results(variable.value)
    return [value.numpy() for value in values]


def frozen():
    """N and G of chunks of steps that change nothing."""
    import keras_svag
    from keras_svag.device_loop import DeviceTrainLoop

    model = compiled(keras_svag.from_keras(network()), learning_rate=0.0)
    loop = DeviceTrainLoop(model, some_digits(), FROZEN_CHUNK)
    rows = indices(FROZEN_STEPS, seed=3).reshape(-1, FROZEN_CHUNK, 2 * B)
    logs = [loop.run(chunk)[1] for chunk in rows]
    return {
        **named("frozen", model.get_weights()),
        "noise": [log["gradient_noise"] for log in logs],
        "signal": [log["gradient_signal"] for log in logs],
    }


def measured():
    """N and G of a step of a linear model without bias, and what they are computed from."""
    import keras_svag

    rng = np.random.default_rng(6)
    x, y, kernel = rng.normal(size=(2 * B, 3)), rng.normal(size=(2 * B, 1)), np.ones((3, 1))
    model = keras_svag.SVAGSequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
    model.set_weights([kernel])
    is_jax = keras.backend.backend() == "jax"
    model.compile(keras_svag.SVAG(0.1, ell=ELL), "mse", jit_compile=is_jax)
    logs = model.fit(x, y, 2 * B, verbose=0, shuffle=False).history
    gradients = 2 * x * (x @ kernel - y)
    return {"measured": [logs[name][0] for name in NOISE], "measured_gradients": gradients}


def advised():
    """Batch sizes in the advice on fits of random length and batch size, and those expected."""
    import keras_svag
    from keras_svag.callbacks import BatchSizeAdvisor

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=(400, 1))
    found, expected = [], []
    is_jax = keras.backend.backend() == "jax"
    # Over the replicas of TensorFlow Keras can neither accumulate gradients nor, on these devices,
    # take several steps per execution.
    for accumulation, steps in ((None, 1), (3, 1), (None, 4), (5, 3))[: 4 if is_jax else 1]:
        model = keras_svag.SVAGSequential([keras.Input((3,)), keras.layers.Dense(1)])
        optimizer = keras.optimizers.SGD(1e-3, gradient_accumulation_steps=accumulation)
        model.compile(optimizer, "mse", steps_per_execution=steps, jit_compile=is_jax)
        for _ in range(5 if is_jax else 10):
            batch_size = 4 * int(rng.integers(1, 9))
            # JAX takes only batches that all devices can share.
            n = 4 * int(rng.integers(15, 100)) + (0 if is_jax else int(rng.integers(4)))
            advisor = BatchSizeAdvisor(verbose=0)
            history = model.fit(x[:n], y[:n], batch_size, 2, verbose=0, callbacks=[advisor]).history
            # A replica may have no example of a short last batch.
            assert np.isfinite([*model.get_weights()[0][0], *history["loss"]]).all()
            found.append(advisor.advice.batch_size if advisor.advice else 0)
            expected.append(batch_size * (accumulation or 1))
    noise, signal = advisor.advice.noise.mean, advisor.advice.signal.mean
    return {"advised": found, "advised_expected": expected, "advised_numbers": [noise, signal]}


def own_step():
    """N and G of epochs of a train step of its own: over replicas, on JAX by accumulation."""
    from keras_svag.callbacks import BatchSizeAdvisor
    from keras_svag.datasets import SampledBatches
    from tests.noise.problem import X, Y, own_model

    steps = 2 if keras.backend.backend() == "jax" else None
    model = own_model(keras.optimizers.SGD(0.0, gradient_accumulation_steps=steps))
    advisor = BatchSizeAdvisor(verbose=0)
    batches = SampledBatches(X, Y, 4, seed=7)
    logs = model.fit(batches, epochs=40, shuffle=False, verbose=0, callbacks=[advisor]).history
    return {
        "own_noise": logs["gradient_noise"],
        "own_signal": logs["gradient_signal"],
        "own_sizes": [advisor.advice.batch_size, advisor.advice.fit_batch_size],
    }


def noise_of_replicas():
    """N and G of one step of two replicas by hand, of parts of 3 and 6 examples."""
    if keras.backend.backend() == "jax":
        from keras_svag.callbacks import BatchSizeAdvisor
        from tests.noise.problem import X, Y, own_model

        try:
            own_model(keras.optimizers.SGD()).fit(X, Y, 8, callbacks=[BatchSizeAdvisor()])
        except ValueError as error:
            return {"hand_refused": str(error)}
    import tensorflow as tf

    from keras_svag.noise import GradientNoiseScale

    strategy = tf.distribute.get_strategy()
    metric, gradients = GradientNoiseScale(), tf.constant([[1.0, 4.0], [3.0, 2.0]])

    @tf.function
    def step():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        # Half of each, as of a loss that Keras divides by two.
        size = tf.gather(tf.constant([3.0, 6.0]), index)
        metric.update_from_replicas([tf.gather(gradients, index) / 2, None], size)

    strategy.run(step)
    return {f"hand_{name}": value for name, value in metric.result().items()}


def refused():
    """What `fit` says of a batch that replicas cannot share."""
    import keras_svag

    x, y = some_digits()
    model = compiled(keras_svag.from_keras(network()))
    try:
        model.fit(x, y, 2 * B + 2, verbose=0)
    except ValueError as error:
        return {"refused": str(error)}
    return {"refused": ""}


def main(replicas, path, *parts):
    """Calls functions of this file under a strategy."""
    from keras_svag.distribution import strategy_scope

    make_virtual_devices(int(replicas))
    # `fit` shuffles by it, the order of a data set's batches too.
    keras.utils.set_random_seed(0)
    results = {}
    with strategy_scope("mirrored") as found:
        assert found == int(replicas)
        for part in parts:
            results |= globals()[part]()
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
