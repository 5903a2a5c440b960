"""Tests of benchmarks/gpu.py on a CPU."""

import json

import keras
import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.sides import pytorch
from benchmarks.timing import Figure


def test_operations_of_a_step_are_counted_layer_by_layer():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    x = keras.layers.Conv2D(5, 1, use_bias=False)(keras.layers.ReLU()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2, trainable=False)(x))
    # Products by hand: 4x4 positions each; the first has no gradient of its input, the last none
    # of its kernel.
    first, second, last = 16 * 9 * 3 * 4, 16 * 4 * 5, 5 * 2
    assert gpu.flops_of_step(model, 7) == 2 * 7 * 2 * (2 * first + 3 * second + 2 * last)


def test_milliseconds_and_share_of_the_arithmetic():
    figures = [
        Figure("gpu", "x", "ours", name, [1.0] * 3, [4e3, 5e3, 6e3], [8e3, 1e4, 2e4])
        for name in ("p", "q")
    ]
    assert gpu.format_milliseconds(figures, flops=2e9, speed=1e12).splitlines() == [
        "2.0 GFLOP a step; matrix products: 1 TFLOP/s",
        "ours: 5 ms a step, of which arithmetic 40.0%",
        "p: 10 ms a step, of which arithmetic 20.0%",
        "q: 10 ms a step, of which arithmetic 20.0%",
    ]


@pytest.mark.requires_jax
@pytest.mark.slow
@pytest.mark.skipif(not pytorch.is_installed(), reason="needs PyTorch")
def test_quick(tmp_path, capsys):
    output = tmp_path / "gpu.json"
    gpu.main(["--quick", f"--output={output}"])
    result = json.loads(output.read_text("utf-8"))
    assert result["environment"]["command"][:3] == ["python", "-m", "benchmarks.gpu"]
    assert result["difference"] < 1e-3  # float32 on a CPU
    assert np.isfinite([figure["median"] for figure in result["figures"]]).all()
    assert "ms a step" in capsys.readouterr().out
