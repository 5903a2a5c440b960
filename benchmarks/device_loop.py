"""Our side of comparisons with other programs, in a process of its own."""

from benchmarks import networks
from keras_svag.device_loop import DeviceTrainLoop


def build(name, batch_size, steps, options):
    """`DeviceTrainLoop`, noise, signal and metrics on unless `options` say otherwise.

    Args:
        name: of the network.
        batch_size: B.
        steps: how many steps in one round.
        options: dict of arguments of `networks.svag`.

    Returns:
        A function of a number of rounds.
    """
    data = networks.examples(name, networks.COUNT)
    loop = DeviceTrainLoop(networks.svag(name, **options), data, steps)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    return lambda count: [loop.run(rows) for _ in range(count)]


def kernels_after(name, batch_size, steps, options):
    """The kernels by layer before and after as many steps."""
    model = networks.svag(name, **options)
    data = networks.examples(name, networks.COUNT)
    before = networks.kernels_of(model)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    DeviceTrainLoop(model, data, steps).run(rows)
    return before, networks.kernels_of(model)
