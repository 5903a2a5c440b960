"""Tests of keras_svag/engine/compiled.py: one program for all runs of a shape."""

import keras
import numpy as np
import pytest

from keras_svag.datasets import Sampler
from keras_svag.engine.compiled import MAX_STEPS_PER_CALL, CompiledTraining
from keras_svag.engine.files import records
from keras_svag.engine.state import RunFolder
from keras_svag.trainer import from_keras
from tests.engine.conftest import RUN
from tests.engine.helpers import execute
from tests.mlp_oracle import DigitsNet
from tests.studies.helpers import build, study_config


def weights(program):
    return [np.array(value) for value in program.state()["model"]]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def rows(dataset):
    return Sampler(dataset.num_train, 128, seed=3).rows(0, 12)


def test_one_trace_for_every_ell_and_seed(recipe, recording, rows):
    program = CompiledTraining(recipe, recording, batch_size=128)
    assert program.num_traces == 0
    for ell, seed, steps in [(1.0, 0, 12), (4.0, 0, 5), (1.0, 3, 1), (0.5, 3, 2), (64.0, 1, 12)]:
        program.start(ell, seed)
        program.advance(rows[:steps])
        program.evaluate()
        assert program.num_traces == 1


def test_start_forgets_everything(program, rows):
    program.start(2.0, seed=1)
    first_logs = program.advance(rows)
    first, first_optimizer = weights(program), program.state()["optimizer"]
    program.start(1.0, seed=4)
    program.advance(rows[::-1])
    program.evaluate()
    program.start(2.0, seed=1)
    assert program.advance(rows) == first_logs
    assert_same(weights(program), first)
    assert_same(program.state()["optimizer"], first_optimizer)


def test_ell_and_seed_matter(program, rows):
    ends = []
    for ell, seed in [(1.0, 1), (2.0, 1), (1.0, 2)]:
        program.start(ell, seed)
        program.advance(rows)
        ends.append(weights(program)[0])
    assert not np.array_equal(ends[0], ends[1]) and not np.array_equal(ends[0], ends[2])


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_start_draws_the_networks_weights(recording, norm):
    # With batch norm the variables that are not trained stand between those that are.
    model = {"name": "mlp", "depth": 2, "width": 1, "norm": norm, "affine": True}
    recipe = build(study_config(model=model)).recipe
    program = CompiledTraining(recipe, recording, batch_size=128)
    program.start(1.0, seed=5)
    expected = {w.path: w.numpy() for w in recipe.build(seed=5).weights}
    got = {w.path: w.numpy() for w in program.model.weights}
    assert got.keys() == expected.keys()
    assert_same(got.values(), expected.values())


def test_steps_do_not_depend_on_how_they_are_cut(program, dataset):
    # More than the program takes in one call, in one piece and in three.
    count = MAX_STEPS_PER_CALL + 70
    rows = Sampler(dataset.num_train, 128, seed=8).rows(0, count)
    program.start(4.0, seed=0)
    steps, logs = program.advance(rows)
    whole = weights(program)
    assert steps == count
    program.start(4.0, seed=0)
    parts = [program.advance(part) for part in np.split(rows, [1, MAX_STEPS_PER_CALL + 30])]
    assert_same(weights(program), whole)
    sizes = [part[0] for part in parts]
    assert sizes == [1, MAX_STEPS_PER_CALL + 29, 40]
    for name in ("loss", "accuracy", "gradient_noise", "gradient_signal"):
        means = np.average([part[1][name] for part in parts], weights=sizes)
        # Sums over 582 steps in float32.
        assert logs[name] == pytest.approx(means, rel=1e-5), name


def test_restore_goes_on_as_if_nothing_had_happened(program, rows):
    program.start(2.0, seed=1)
    program.advance(rows[:7])
    state = program.state()
    program.advance(rows[7:])
    expected = program.state()
    program.start(1.0, seed=9)
    program.advance(rows[:3])
    program.restore(state)
    program.advance(rows[7:])
    for group in ("model", "optimizer"):
        assert_same(program.state()[group], expected[group])


def test_state_of_random_layers_is_among_the_variables():
    # `state` saves `model.variables`: a resumed run draws the masks that come next.
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5)])
    model = from_keras(network)
    states = [v for v in model.variables if "seed" in v.path]
    assert len(states) == 1
    before = states[0].numpy()
    model(np.ones((2, 4), "float32"), training=True)
    assert not np.array_equal(states[0].numpy(), before)


def test_evaluation_is_that_of_numpy(program, dataset, rows):
    program.start(1.0, seed=2)
    program.advance(rows)
    kernels = [w.astype(np.float64) for w in weights(program)[:3]]
    net = DigitsNet()
    got = program.evaluate()
    for split in ("train", "test"):
        x, y = getattr(dataset, f"{split}_x"), getattr(dataset, f"{split}_y")
        loss, accuracy = net.loss_and_accuracy(kernels, x.astype(np.float64), y)
        assert got[f"{split}_loss"] == pytest.approx(loss, rel=1e-5)
        # One example whose two largest logits are equal in float32 may fall on either side.
        assert got[f"{split}_accuracy"] == pytest.approx(accuracy, abs=1.5 / len(y))
    norm = sum(np.sum(k**2) for k in kernels[:2])
    assert program.weight_norm() == pytest.approx(norm, rel=1e-12)


@pytest.mark.parametrize("ell", [0.5, 1.0, 3.0, 7.3, 8.0])
def test_learning_rates_are_those_of_the_optimizer(program, ell):
    # Asked of the optimizer itself, at each step (that is, at each value of `iterations`).
    program.start(ell, seed=0)
    optimizer = program.model.optimizer
    total = int(program.total * ell)
    told = program.learning_rates(ell, 0, total)
    for step in range(total):
        optimizer.iterations.assign(step)
        assert told[step] == pytest.approx(float(optimizer.learning_rate), rel=1e-6), step
    # The decay to a tenth comes at 80 % of the run: 17.6 of 22 effective steps, hence at 18.
    drop = int(np.argmax(told < told[0]))
    assert drop == int(np.ceil(18 * ell)) and told[drop] == pytest.approx(0.1 * told[0])
    np.testing.assert_array_equal(program.learning_rates(ell, 5, 9), told[5:9])


def test_initial_scale_is_that_of_the_trained_weights():
    plain, scaled = (build(study_config(initial_scale=c)).recipe.build(seed=5) for c in (1.0, 0.25))
    for a, b in zip(plain.weights, scaled.weights, strict=True):
        factor = 0.25 if a.trainable else 1.0
        np.testing.assert_array_equal(b.numpy(), factor * a.numpy())  # a power of two is exact
    assert {w.trainable for w in plain.weights} == {True, False}


def momentum_program(recording, **options):
    config = study_config(optimizer={"name": "SVAG", "momentum": 0.99, **options})
    return CompiledTraining(build(config).recipe, recording, batch_size=128)


def test_records_with_momentum_have_the_velocity(recording, uninterrupted, tmp_path):
    program = momentum_program(recording)
    execute(RUN, program, recording, tmp_path)
    rows = records.read_jsonl(RunFolder(tmp_path, RUN.name).metrics)
    # The last row is of the state that the program is left in; each weight has a buffer.
    velocity = program.model.optimizer.momentums
    buffers = [keras.ops.convert_to_numpy(v).astype(np.float64) for v in velocity]
    assert [b.shape for b in buffers] == [w.shape for w in program.model.trainable_variables]
    expected = sum(np.sum(b**2) for b in buffers)
    assert rows[-1]["velocity_norm"] == pytest.approx(expected, rel=1e-12)
    assert all(row["velocity_norm"] > 0 for row in rows)
    # None with plain SGD, nor with Nesterov momentum, which has no balance to test.
    plain = records.read_jsonl(RunFolder(uninterrupted, RUN.name).metrics)
    assert set(rows[0]) - set(plain[0]) == {"velocity_norm"}
    assert momentum_program(recording, nesterov=True).velocity_norm() is None
