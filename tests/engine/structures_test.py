"""Recipes with structures of inputs and outputs, float targets and sample weights."""

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import RunSpec
from tests.engine.helpers import execute

RNG = np.random.default_rng(0)
NUM_TRAIN, BATCH_SIZE, RATE = 96, 8, 0.05
X = {
    "image": RNG.normal(size=(NUM_TRAIN, 4, 4)).astype("float32"),
    "number": RNG.normal(size=(NUM_TRAIN, 3)).astype("float32"),
}
Y = {
    "value": RNG.normal(size=(NUM_TRAIN, 2)).astype("float32"),
    "label": RNG.integers(5, size=NUM_TRAIN),
}
WEIGHTS = {name: RNG.uniform(0.5, 2, size=NUM_TRAIN).astype("float32") for name in Y}
LOSSES = {
    "value": "mse",
    "label": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}
DATA = {"targets": (X, Y), "weighted targets": (X, Y, WEIGHTS)}


def build(seed):
    keras.utils.set_random_seed(seed)
    image, number = keras.Input((4, 4), name="image"), keras.Input((3,), name="number")
    hidden = keras.layers.Concatenate()([keras.layers.Flatten()(image), number])
    hidden = keras.layers.Dense(16, "tanh")(hidden)
    outputs = {
        "value": keras.layers.Dense(2, name="value")(hidden),
        "label": keras.layers.Dense(5, name="label")(hidden),
    }
    return keras.Model({"image": image, "number": number}, outputs)


def make(data):
    sgd = keras.optimizers.SGD(RATE)
    return Recipe(build, data, sgd, LOSSES, BATCH_SIZE, epochs=2, test_data=(X, Y))


def take(data, rows):
    return keras.tree.map_structure(lambda array: array[rows], data)


@pytest.mark.parametrize("case", DATA)
def test_steps_at_ell_one_are_those_of_plain_sgd(case):
    # The first half of each batch is that of SGD; what ell = 1 leaves of the second is nothing.
    data = DATA[case]
    program = CompiledTraining(make(data), Recording(), BATCH_SIZE)
    (rows,) = program.draw(seed=11, start=0, stop=20)
    program.start(1.0, seed=3)
    steps, _ = program.advance(rows)
    assert steps == 20
    plain = build(3)
    plain.compile(keras.optimizers.SGD(RATE), LOSSES)
    before = plain.get_weights()
    for batch in rows:
        plain.train_on_batch(*take(data, batch[0::2]))
    for start, wanted, got in zip(
        before, plain.get_weights(), program.state()["model"], strict=True
    ):
        # Sums of float32 in another order, 1e-7 a step; the weights move by far more.
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
        assert np.abs(wanted - start).max() > 1e-2
    evaluated = program.evaluate()
    loss = plain.evaluate(X, Y, batch_size=NUM_TRAIN, verbose=0, return_dict=True)["loss"]
    assert evaluated["test_loss"] == pytest.approx(loss, rel=1e-4)
    named = dict(zip(("x", "y", "sample_weight"), data))
    loss = plain.evaluate(**named, batch_size=NUM_TRAIN, verbose=0, return_dict=True)["loss"]
    assert evaluated["train_loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("ell", [1.0, 4.0])
def test_run_trains(ell, tmp_path):
    recipe = make(DATA["weighted targets"])
    recording = Recording(num_records=4)
    program = CompiledTraining(recipe, recording, BATCH_SIZE)
    spec = RunSpec(BATCH_SIZE, RATE, ell, seed=0, total=program.total)
    assert execute(spec, program, recording, tmp_path)["status"] == "done"
    evaluated = program.evaluate()
    program.start(ell, seed=0)
    assert evaluated["train_loss"] < 0.95 * program.evaluate()["train_loss"]
