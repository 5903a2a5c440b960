"""The same networks and SVAG step in PyTorch, as in the code of the paper's authors.

Each half of a batch of 2B has its own forward pass; the two losses are weighted by
`(1 +- sqrt(2 l - 1)) / 2`; one backward pass and one step of SGD at `eta / l`, without metrics.
PyTorch and TensorFlow crash each other in one process, so this module must not import Keras.
"""

import dataclasses
import importlib.util
import math

import numpy as np

STAGE_CHANNELS = (16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network, its data and the hyperparameters, on which both sides agree."""

    name: str  # "mlp", or else a PreResNet
    depth: int
    norm: str  # "group" or "batch"
    groups: int
    epsilon: float
    momentum: float  # of moving averages, in Keras' convention
    learning_rate: float
    ell: float
    weight_decay: float
    kernels: dict  # by layer, in Keras' layout; "logits" is not trained
    x: np.ndarray  # channels last
    y: np.ndarray
    channels_last: bool = False  # memory format of PyTorch
    device: str = "cpu"
    compiled: bool = False


def is_installed():
    """Returns True if PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def build(setting, rows):
    """Returns a function that runs a number of rounds with one step per row."""
    training = Training(setting)
    return lambda count: [training.run(rows) for _ in range(count)]


def kernels_after(setting, rows):
    """Returns the kernels in Keras' layout after one step per row."""
    training = Training(setting)
    training.run(rows)
    return training.kernels()


def _network(setting):
    import torch

    net = _mlp(setting) if setting.name == "mlp" else _preresnet(setting)
    parts = dict(net.named_modules())
    with torch.no_grad():
        for layer, kernel in setting.kernels.items():
            # Keras: (..., in, out); PyTorch: (out, in, ...).
            axes = (kernel.ndim - 1, kernel.ndim - 2, *range(kernel.ndim - 2))
            parts[layer].weight.copy_(torch.from_numpy(np.transpose(kernel, axes).copy()))
    parts["logits"].weight.requires_grad_(False)
    return net


def _normalization(setting, channels):
    import torch

    if setting.norm == "group":
        return torch.nn.GroupNorm(setting.groups, channels, setting.epsilon, affine=False)
    kind = torch.nn.BatchNorm1d if setting.name == "mlp" else torch.nn.BatchNorm2d
    return kind(channels, setting.epsilon, 1 - setting.momentum, affine=False)


def _logits(setting):
    import torch

    inputs, classes = setting.kernels["logits"].shape
    return torch.nn.Linear(inputs, classes, bias=False)


def _mlp(setting):
    from torch import nn

    net = nn.Sequential()
    for i in range(setting.depth):
        inputs, units = setting.kernels[f"hidden_{i}"].shape
        net.add_module(f"hidden_{i}", nn.Linear(inputs, units, bias=False))
        net.add_module(f"norm_{i}", _normalization(setting, units))
        net.add_module(f"relu_{i}", nn.ReLU())
    net.add_module("logits", _logits(setting))
    return net


def _preresnet(setting):
    import torch
    from torch import nn

    class PreResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = []
            channels = STAGE_CHANNELS[0]
            self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
            for stage, width in enumerate(STAGE_CHANNELS):
                for block in range((setting.depth - 2) // 6):
                    self._add_block(stage, block, channels, width)
                    channels = width
            self.last_norm = _normalization(setting, channels)
            self.logits = _logits(setting)

        def _add_block(self, stage, block, channels, width):
            stride = 2 if stage > 0 and block == 0 else 1
            name = f"stage_{stage}_block_{block}"
            parts = {
                f"{name}_norm_0": _normalization(setting, channels),
                f"{name}_conv_0": nn.Conv2d(channels, width, 3, stride, padding=1, bias=False),
                f"{name}_norm_1": _normalization(setting, width),
                f"{name}_conv_1": nn.Conv2d(width, width, 3, padding=1, bias=False),
            }
            shortcut = {}
            if block == 0:
                shortcut = {
                    f"stage_{stage}_shortcut_norm": _normalization(setting, channels),
                    f"stage_{stage}_shortcut": nn.Conv2d(channels, width, 1, stride, bias=False),
                }
            for key, part in (parts | shortcut).items():
                self.add_module(key, part)
            self.blocks.append((list(parts.values()), list(shortcut.values())))

        def forward(self, x):
            x = self.stem(x)
            for (norm_0, conv_0, norm_1, conv_1), shortcut in self.blocks:
                around = x
                for part in shortcut:
                    around = part(around)
                x = conv_0(torch.relu(norm_0(x)))
                x = conv_1(torch.relu(norm_1(x))) + around
            return self.logits(self.last_norm(x).mean(dim=(2, 3)))

    return PreResNet()


class Training:
    """SVAG steps over examples on the device."""

    def __init__(self, setting):
        import torch

        net, x = _network(setting), setting.x
        x = torch.from_numpy(np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x)
        if setting.channels_last:
            x, net = (part.to(memory_format=torch.channels_last) for part in (x, net))
        self._device = torch.device(setting.device)
        y = torch.from_numpy(setting.y.astype(np.int64))
        self._x, self._y, self.net = (part.to(self._device) for part in (x, y, net.train()))
        self._call = torch.compile(self.net) if setting.compiled else self.net
        self._optimizer = torch.optim.SGD(
            [w for w in self.net.parameters() if w.requires_grad],
            lr=setting.learning_rate / setting.ell,
            weight_decay=setting.weight_decay,
        )
        root = math.sqrt(2 * setting.ell - 1)
        self._factors = (1 + root) / 2, (1 - root) / 2

    def run(self, rows):
        """Takes one step per row of 2B example indices."""
        import torch

        for row in torch.from_numpy(rows.astype(np.int64)).to(self._device):
            x, y = self._x[row], self._y[row]
            losses = [
                torch.nn.functional.cross_entropy(self._call(x[i::2]), y[i::2]) for i in (0, 1)
            ]
            loss = sum(factor * loss for factor, loss in zip(self._factors, losses))
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # CUDA runs asynchronously

    def kernels(self):
        """Returns the kernels by layer in Keras' layout."""
        kernels = {name: w.detach().cpu().numpy() for name, w in self.net.named_parameters()}
        return {
            name.removesuffix(".weight"): np.moveaxis(kernel, (0, 1), (-1, -2)).copy()
            for name, kernel in kernels.items()
        }
