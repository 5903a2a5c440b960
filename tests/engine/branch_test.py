"""Runs that start where another run ended, at another batch size."""

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine import execution
from keras_svag.engine.compiled import CompiledTraining
from keras_svag.engine.files import checkpoints, records, results
from keras_svag.engine.recording import Recording
from keras_svag.engine.spec import BranchSpec, RunSpec
from keras_svag.engine.state import RunFolder
from keras_svag.engine.vmap_seeds import execute_group
from tests.engine.helpers import (
    Interrupted,
    assert_same_end,
    execute,
    final_state,
    interrupt_after,
)

X = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
RECORDING = Recording(num_records=4, num_checkpoints=2, identity="mine")
BASE = RunSpec(batch_size=4, learning_rate=0.05, ell=1.0, seed=1, total=10)
BRANCH = BranchSpec(
    batch_size=8, learning_rate=0.1, ell=1.0, seed=1, total=6,
    base_batch_size=4, base_learning_rate=0.05, base_total=10,
)  # fmt: skip


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])


def make_recipe(optimizer):
    return Recipe(build, (X, X[:, :1]), optimizer, "mse", batch_size=4, epochs=4)


@pytest.fixture(scope="module")
def recipe():
    """SGD with momentum and a schedule over the whole run of 64 steps."""
    rate = keras.optimizers.schedules.PolynomialDecay(0.05, 64, 0.0)
    return make_recipe(keras.optimizers.SGD(rate, momentum=0.75))


@pytest.fixture(scope="module")
def program(recipe):
    return CompiledTraining(recipe, RECORDING, batch_size=8)


@pytest.fixture(scope="module")
def base(recipe, tmp_path_factory):
    """Folder of `BASE`, finished."""
    workdir = tmp_path_factory.mktemp("base")
    execute(BASE, CompiledTraining(recipe, RECORDING, batch_size=4), RECORDING, workdir)
    return workdir


@pytest.fixture
def workdir(base, tmp_path):
    """A copy of it."""
    records.make_folder(tmp_path / "runs")
    for path in sorted((base / "runs").rglob("*")):
        copy = tmp_path / path.relative_to(base)
        copy.mkdir() if path.is_dir() else copy.write_bytes(path.read_bytes())
    return tmp_path


def branched(program, workdir, spec=BRANCH):
    """The variables of the optimizer right after the branch, by path, before and after."""
    state, _ = final_state(workdir, spec.origin)
    program.start(1.0, seed=spec.seed)
    fresh = program.state()["optimizer"]
    program.branch(state, spec.kappa, spec.first_step)
    names = [variable.path for variable in program.model.optimizer.variables]
    return dict(zip(names, zip(fresh, state["optimizer"], program.state()["optimizer"])))


def test_a_branch_has_weights_and_velocity_of_its_origin(program, base):
    found = branched(program, base)
    state, _ = final_state(base, BASE)
    for got, wanted in zip(program.state()["model"], state["model"], strict=True):
        np.testing.assert_array_equal(got, wanted)
    moved = 0
    for name, (fresh, before, after) in found.items():
        if name.endswith("iteration"):
            assert (fresh, before, after) == (0, 10, 5)  # half as many steps of the schedule
        elif name.endswith("momentum") and np.shape(after):
            # A velocity is a distance per step, of twice as many examples.
            np.testing.assert_array_equal(after, 2 * before)
            moved += np.any(after != 0)
        elif not np.shape(after) and "half" not in name:
            np.testing.assert_array_equal(after, fresh)  # hyperparameters of the branch
    assert moved


def test_a_branch_of_adam_divides_its_second_moment(base, tmp_path):
    recipe = make_recipe(keras.optimizers.AdamW(0.01, beta_1=0.75, beta_2=0.875))
    execute(BASE, CompiledTraining(recipe, RECORDING, batch_size=4), RECORDING, tmp_path)
    program = CompiledTraining(recipe, RECORDING, batch_size=8)
    found = branched(program, tmp_path)
    names = [name for name, (_, before, _) in found.items() if np.any(np.ravel(before) != 0)]
    for kind, factor in (("momentum", 1.0), ("velocity", 0.5)):
        [name, *_] = [name for name in names if name.endswith(kind)]
        _, before, after = found[name]
        np.testing.assert_array_equal(after, np.float32(factor) * before)


def test_a_branch_of_centered_rmsprop_has_finite_weights(base, tmp_path):
    # Without noise: what an average of squares has beyond the square of the average is rounding.
    def constant(y_true, y_pred):
        return y_pred[:, 0]

    recipe = Recipe(
        build, (np.ones_like(X), X[:, :1]), keras.optimizers.RMSprop(0.01, centered=True), constant,
        batch_size=4, epochs=4,
    )  # fmt: skip
    execute(BASE, CompiledTraining(recipe, RECORDING, batch_size=4), RECORDING, tmp_path)
    program = CompiledTraining(recipe, RECORDING, batch_size=8)
    assert execute(BRANCH, program, RECORDING, tmp_path)["status"] == execution.DONE


def test_a_branch_at_the_same_batch_size_is_the_origin_going_on(recipe, base):
    program = CompiledTraining(recipe, RECORDING, batch_size=4)
    spec = BranchSpec(4, 0.05, 1.0, 1, 6, "branch", 4, 0.05, 10)
    branched(program, base, spec)
    state, _ = final_state(base, BASE)
    for group in ("model", "optimizer"):
        for got, wanted in zip(program.state()[group], state[group], strict=True):
            np.testing.assert_array_equal(got, wanted)
    # But with batches of its own, not those of the origin from the start.
    seeds = {execution.RunState(s, program, RECORDING, RunFolder(base, s.name), print)._seed
             for s in (BASE, spec)}  # fmt: skip
    assert len(seeds) == 2


def test_a_branch_follows_the_schedule_in_effective_time(program, workdir):
    execute(BRANCH, program, RECORDING, workdir)
    rows = records.read_jsonl(RunFolder(workdir, BRANCH.name).metrics)
    # Rates at the last of steps 5 to 10, of 32; momentum under the heavy-ball rule: times 4.
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    expected = [0.2 * (1 - 2 * (5 + step - 1) / 64) for step in (2, 3, 4, 6)]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], expected, rtol=1e-6)


def test_an_interrupted_branch_ends_the_same(program, workdir, tmp_path_factory):
    other = tmp_path_factory.mktemp("interrupted")
    for path in [p for p in workdir.rglob("*") if p.is_file()]:
        copy = other / path.relative_to(workdir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    execute(BRANCH, program, RECORDING, workdir)
    for count in (0, 3):
        with pytest.raises(Interrupted):
            execute(BRANCH, program, RECORDING, other, on_steps=interrupt_after(count))
    execute(BRANCH, program, RECORDING, other)
    assert_same_end(other, workdir, BRANCH)
    result = results.read(RunFolder(other, BRANCH.name), BRANCH, "mine")
    assert results.spec_of(result) == BRANCH and result["status"] == execution.DONE


def test_without_its_origin_a_branch_waits(program, tmp_path):
    result = execute(BRANCH, program, RECORDING, tmp_path)
    assert result["status"] == execution.FAILED and "b4_ell1_seed1" in result["message"]
    assert not RunFolder(tmp_path, BRANCH.name).result.exists()  # the next call tries again


def test_with_a_failed_origin_a_branch_fails(program, tmp_path):
    folder = RunFolder(tmp_path, BASE.name)
    records.make_folder(folder.path, parents=True)
    content = {"status": execution.FAILED, "seconds": 0.0, "identity": "mine", "versions": {}}
    results.write(folder, BASE, content, [])
    result = execute(BRANCH, program, RECORDING, tmp_path)
    assert result["status"] == execution.FAILED and "failed" in result["message"]
    assert execute(BRANCH, None, RECORDING, tmp_path) == result  # it is stored


def test_a_damaged_checkpoint_of_the_origin_is_named(program, workdir):
    path = RunFolder(workdir, BASE.name).checkpoint
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(records.DamagedError, match="b4_ell1_seed1.*Move the run's folder away"):
        execute(BRANCH, program, RECORDING, workdir)


def test_the_checkpoint_of_another_study_is_refused(program, workdir):
    folder = RunFolder(workdir, BASE.name)
    state, facts = checkpoints.load(folder.checkpoints, ["model", "optimizer", "metrics"])
    facts["run"]["study"] = "another"
    checkpoints.save(folder.checkpoints, state, **facts)
    with pytest.raises(checkpoints.CheckpointError, match="study 'another' instead of 'mine'"):
        execute(BRANCH, program, RECORDING, workdir)


@pytest.mark.requires_jax
def test_branches_of_several_seeds_in_one_program(recipe, tmp_path):
    seeds = [
        (BASE, BRANCH),
        (RunSpec(4, 0.05, 1.0, 2, 10), BranchSpec(8, 0.1, 1.0, 2, 6, "branch", 4, 0.05, 10)),
    ]
    programs = {size: CompiledTraining(recipe, RECORDING, batch_size=size) for size in (4, 8)}
    for base, _ in seeds:
        execute(base, programs[4], RECORDING, tmp_path)
    group = [branch for _, branch in seeds]
    assert len(execute_group(group, lambda: programs[8], RECORDING, tmp_path)) == 2
    found = [records.read_jsonl(RunFolder(tmp_path, b.name).metrics) for b in group]
    for branch in group:
        for path in sorted(RunFolder(tmp_path, branch.name).path.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        execute(branch, programs[8], RECORDING, tmp_path)
    for branch, rows in zip(group, found):
        alone = records.read_jsonl(RunFolder(tmp_path, branch.name).metrics)
        for name in ("train_loss", "weight_norm"):
            np.testing.assert_allclose([r[name] for r in rows], [r[name] for r in alone], rtol=1e-5)
