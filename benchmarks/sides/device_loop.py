"""Our side of comparisons with PyTorch, for a separate process."""

from benchmarks.sides import networks
from keras_svag.device_loop import DeviceTrainLoop


def build(name, batch_size, steps, options):
    """Returns a function that runs a number of rounds of `steps` steps in a `DeviceTrainLoop`."""
    data = networks.examples(name, networks.COUNT)
    loop = DeviceTrainLoop(networks.svag(name, **options), data, steps)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    return lambda count: [loop.run(rows) for _ in range(count)]


def kernels_after(name, batch_size, steps, options):
    """Returns the kernels by layer before and after `steps` steps."""
    model = networks.svag(name, **options)
    data = networks.examples(name, networks.COUNT)
    before = networks.kernels_of(model)
    rows = networks.row_table(networks.COUNT, steps, batch_size)
    DeviceTrainLoop(model, data, steps).run(rows)
    return before, networks.kernels_of(model)
