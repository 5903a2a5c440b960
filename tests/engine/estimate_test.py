"""`estimate_runs`: the arithmetic of chip-hours, with a compiler that only notes what it gets."""

import dataclasses

import keras
import pytest

from keras_svag.accelerators import CHIPS, parse_topology
from keras_svag.engine import estimate
from keras_svag.engine.spec import GAUSSIAN, SVAG, RunSpec
from tests.accelerators.chips_test import COUNTS

IS_JAX = keras.backend.backend() == "jax"
PEAK = CHIPS["v5e"].flops


@pytest.fixture
def compiled(monkeypatch):
    """Programs that were compiled: `(chips, number of arguments)`; each takes 0.25 s a step."""
    found = []

    class FakeTarget:
        def __init__(self, topology, chips):
            self.chip, self.chips = parse_topology(topology)[0], chips

        def compile(self, program):
            found.append((self.chips, len(program.arguments)))
            return dataclasses.replace(COUNTS, flops=0.25 * PEAK, bytes=0)

    monkeypatch.setattr(estimate, "Target", FakeTarget)
    return found


def specs(method=SVAG, batch_size=128, seeds=2, ell=2.0):
    return [RunSpec(batch_size, 0.1, ell, seed, 10, method) for seed in range(seeds)]


@pytest.mark.requires_jax
def test_steps_of_all_runs_on_one_chip(recipe, compiled):
    found = estimate.estimate_runs(recipe, specs(), "v5e:1x1")
    assert [chips for chips, _ in compiled] == [1]
    assert (found.num_runs, found.num_steps) == (2, 2 * 20)
    assert found.chip_hours == pytest.approx(40 * 0.25 / 3600)
    assert found.hours == found.chip_hours
    assert "40 steps: at least 0.00278 chip-hours" in str(found) and "1 chip." in str(found)


@pytest.mark.requires_jax
def test_smaller_batch_sizes_compute_as_long_per_example(recipe, compiled):
    runs = [*specs(batch_size=recipe.batch_size, seeds=1), *specs(batch_size=64, seeds=1)]
    found = estimate.estimate_runs(recipe, runs, "v5e:1x1")
    assert len(compiled) == 1
    [step] = found.steps
    assert step.batch_size == 64 > recipe.batch_size
    scaled = recipe.batch_size / 64
    assert found.chip_hours == pytest.approx(20 * 0.25 * (1 + scaled) / 3600)


@pytest.mark.requires_jax
def test_memory_traffic_counts_only_at_the_batch_size_that_is_compiled(recipe, monkeypatch):
    """A smaller batch may stay in the core: PreResNet-32 takes 2.8 times as long at B = 1024."""

    class FakeTarget:
        chip = CHIPS["v5e"]

        def __init__(self, topology, chips):
            del topology, chips

        def compile(self, program):
            traffic = {"bytes": 3 * CHIPS["v5e"].bandwidth, "on_chip_bytes": 0}
            return dataclasses.replace(COUNTS, flops=0.25 * PEAK, off_chip_bytes=None, **traffic)

    monkeypatch.setattr(estimate, "Target", FakeTarget)
    runs = [*specs(batch_size=64, seeds=1), *specs(batch_size=32, seeds=1)]
    found = estimate.estimate_runs(recipe, runs, "v5e:1x1")
    assert found.chip_hours == pytest.approx(20 * (3 + 0.25 / 2) / 3600)


@pytest.mark.requires_jax
@pytest.mark.parametrize(("can_share", "chips"), [(True, 4), (False, 1)])
def test_chips_share_batches_or_train_side_by_side(recipe, compiled, can_share, chips):
    found = estimate.estimate_runs(recipe, specs(), "v5e:2x2", can_share)
    assert compiled[0][0] == chips
    assert found.chip_hours == pytest.approx(chips * 40 * 0.25 / 3600)
    # Shared: four chips at once. Else two of the four have a run.
    assert found.hours == pytest.approx(40 * 0.25 / 3600 / (1 if can_share else 2))


@pytest.mark.requires_jax
def test_batches_that_four_chips_cannot_share(recipe, compiled):
    estimate.estimate_runs(recipe, specs(batch_size=30), "v5e:2x2")
    assert compiled[0][0] == 1


@pytest.mark.requires_jax
@pytest.mark.parametrize("method", [SVAG, GAUSSIAN])
def test_programs_have_no_more_data_than_one_step_reads(recipe, monkeypatch, method):
    """Others would be counted as if every step read them."""
    lengths = []

    class FakeTarget:
        chip = CHIPS["v5e"]

        def __init__(self, topology, chips):
            del topology, chips

        def compile(self, program):
            lengths.extend(a.shape for a in keras.tree.flatten(program.arguments[1]))
            return COUNTS

    monkeypatch.setattr(estimate, "Target", FakeTarget)
    monkeypatch.setattr("keras_svag.engine.compiled.MAX_EVAL_BATCH", 256)  # examples in a chunk
    step = estimate.estimate_step(recipe, method, 8, "v5e:1x1")
    # Full-batch steps read them in chunks of the first axis.
    lengths = [shape[0] if method == SVAG else shape[0] * shape[1] for shape in lengths]
    assert set(lengths) == {16 if method == SVAG else 256}
    assert step.examples < 512 < recipe.num_train


@pytest.mark.requires_jax
def test_full_batch_steps_count_all_examples(recipe, compiled):
    runs = specs(GAUSSIAN, seeds=1)
    found = estimate.estimate_runs(recipe, runs, "v5e:1x1")
    [step] = found.steps
    steps = 20 * recipe.num_train / step.examples
    assert found.chip_hours == pytest.approx(steps * 0.25 / 3600)


@pytest.mark.skipif(IS_JAX, reason="is about TensorFlow")
def test_tensorflow_is_refused(recipe):
    with pytest.raises(ValueError, match="Received: the backend tensorflow.*KERAS_BACKEND=jax"):
        estimate.estimate_runs(recipe, specs(), "v5e:1x1")
