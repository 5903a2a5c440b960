"""Tests of keras_svag/engine/shard.py."""

import itertools

import pytest

from keras_svag.engine.shard import Shard, parse_shard
from keras_svag.engine.spec import GAUSSIAN, RunSpec

NUM_TRAIN = 1437
GRID = [
    RunSpec(batch_size, 0.1, ell, seed, 30 * NUM_TRAIN // batch_size)
    for batch_size, ell, seed in itertools.product((8, 256), (1.0, 2.0, 4.0, 8.0), range(4))
] + [RunSpec(256, 0.1, 8.0, seed, 168, GAUSSIAN) for seed in range(4)]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 36, 50])
def test_parts_are_the_grid_and_do_not_overlap(count):
    parts = [Shard(index, count).select(GRID, NUM_TRAIN) for index in range(1, count + 1)]
    names = [run.name for part in parts for run in part]
    assert sorted(names) == sorted(run.name for run in GRID)
    # A part does not depend on the order in which the grid is given.
    assert [Shard(1, count).select(GRID[::-1], NUM_TRAIN)] == parts[:1]


def test_parts_cost_about_the_same():
    costs = [
        sum(run.steps * run.examples_per_step(NUM_TRAIN) for run in part)
        for part in (Shard(index, 4).select(GRID, NUM_TRAIN) for index in range(1, 5))
    ]
    # Four seeds of everything: each part is one of them.
    assert max(costs) == min(costs)


@pytest.mark.parametrize("text", ["", "0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/2", " 1/4", 3])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match=r"`shard` must be i/n .* Received: shard="):
        parse_shard(text)


def test_shards():
    assert parse_shard("4/4") == Shard(4, 4) and str(Shard(2, 8)) == "2/8"
    assert parse_shard(None) is None
