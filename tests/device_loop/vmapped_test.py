"""`VmappedTrainLoop`: members compute what each does alone, and are independent."""

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag import _keras
from keras_svag.device_loop import DeviceTrainLoop, VmappedTrainLoop
from tests.device_loop.loop_test import B, N, data

pytestmark = pytest.mark.requires_jax

MEMBERS, STEPS = 3, 7
NAN = N - 1  # the image of nan, which only some tests read
ROWS = np.random.default_rng(1).integers(NAN, size=(STEPS, MEMBERS, 2 * B))
# A factor and an offset for each batch, as an augmentation draws.
PARAMS = np.random.default_rng(2).uniform(0.5, 1.5, size=(STEPS, MEMBERS, 2)).astype("float32")


def examples():
    x, y = data()
    x[NAN] = np.nan
    return x, y


def distort(x, params):
    return params[0] * x + params[1]


def network(convolution):
    """Random masks, batch statistics, momentum and a schedule: all that a member's values hold."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(2, 3)(inputs) if convolution else inputs
    x = keras.layers.Dense(8)(keras.layers.Flatten()(x))
    x = keras.layers.Dropout(0.2)(keras.layers.BatchNormalization()(x))
    model = keras_svag.SVAGModel(inputs, keras.layers.Dense(3)(keras.ops.tanh(x)))
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.3, 0.1])
    model.compile(
        keras_svag.SVAG(schedule, ell=2.0, momentum=0.5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=True,
    )
    _keras.build_for_training(model, tuple(a[: 2 * B] for a in examples()))
    return model


@pytest.fixture(scope="module", params=[False, True], ids=["dense", "convolution"])
def loop(request):
    """A loop that was compiled once; on a CPU a convolution has each step in a call of its own."""
    loop = VmappedTrainLoop(network(request.param), examples(), 3, distort)
    assert loop.fuses_steps is not request.param
    return loop


def members_of(loop):
    """Values with other weights, masks and amplification for each member."""
    model, rng, members = loop._model, np.random.default_rng(3), []
    for variable in model.non_trainable_variables:
        if "seed" not in variable.path:
            variable.assign(np.ones(variable.shape))
    for variable in model.optimizer.variables:
        if "momentum" in variable.path or "iteration" in variable.path:
            variable.assign(np.zeros(variable.shape))
    for place in range(MEMBERS):
        for variable in model.trainable_variables:
            variable.assign(rng.normal(size=variable.shape))
        for variable in model.non_trainable_variables:
            if "seed" in variable.path:
                variable.assign([place, 7])
        model.optimizer.ell = 1.0 + place
        model.reset_metrics()
        members.append([np.array(values) for values in loop.values()])
    return members


def ends_of(loop):
    ends = []
    for place in range(MEMBERS):
        loop.select(place)
        ends.append([np.array(values) for values in loop.values()])
    return ends


def test_members_compute_what_each_does_alone(loop):
    members = members_of(loop)
    loop.stack(members)
    outcomes = loop.run(ROWS, PARAMS)
    ends = ends_of(loop)
    assert loop.num_traces == 1
    alone = DeviceTrainLoop(loop._model, examples(), 3, distort)
    for place, member in enumerate(members):
        for variable, values in zip(loop._variables, member, strict=True):
            variable.assign(values)
        steps, logs = alone.run(ROWS[:, place], PARAMS[:, place])
        assert outcomes[place][0] == steps == STEPS
        # Rounding of 6e-8 in sums of at most 36 terms, over 7 steps, in halves of two examples,
        # whose batch statistics magnify it.
        assert outcomes[place][1] == pytest.approx(logs, rel=1e-4)
        for variable, values in zip(loop._variables, ends[place], strict=True):
            np.testing.assert_allclose(
                values, variable.numpy(), rtol=1e-4, atol=1e-5, err_msg=variable.path
            )
    # They are three runs, not one, and masks, statistics and steps went on.
    assert len({logs["loss"] for _, logs in outcomes}) == MEMBERS
    changed = [np.abs(a - b).max() > 0 for a, b in zip(ends[1], members[1])]
    for path in ("seed", "moving_mean", "momentum", "iteration"):
        assert any(c for c, v in zip(changed, loop._variables) if path in v.path), path


def test_metrics_go_on_where_they_are_not_fresh(loop):
    members = members_of(loop)
    loop.stack(members)
    whole = loop.run(ROWS, PARAMS)
    loop.stack(members)
    loop.run(ROWS[:4], PARAMS[:4])
    cut = loop.run(ROWS[4:], PARAMS[4:], reset_metrics=False)
    assert [steps for steps, _ in cut] == [3] * MEMBERS
    assert [logs for _, logs in cut] == [pytest.approx(logs) for _, logs in whole]


def test_member_that_diverges_does_no_harm(loop):
    rows = ROWS.copy()
    rows[4, 1, 2] = NAN
    members = members_of(loop)
    loop.stack(members)
    outcomes = loop.run(rows, PARAMS)
    ends = ends_of(loop)
    assert [steps for steps, _ in outcomes] == [7, 5, 7]
    assert np.isnan(outcomes[1][1]["loss"])
    # The others are as they are where it reads another image, to the bit.
    loop.stack(members)
    harmless = loop.run(ROWS, PARAMS)
    expected = ends_of(loop)
    for place in (0, 2):
        assert outcomes[place] == harmless[place]
        for a, b in zip(ends[place], expected[place], strict=True):
            np.testing.assert_array_equal(a, b)


def test_it_ends_where_all_have_diverged(loop, monkeypatch):
    loop.stack(members_of(loop))
    calls, call = [], loop._call
    monkeypatch.setattr(loop, "_call", lambda *a, **k: (calls.append(1), call(*a, **k))[1])
    outcomes = loop.run(np.full_like(ROWS, NAN), PARAMS)
    assert [steps for steps, _ in outcomes] == [1] * MEMBERS and len(calls) == 1


def test_rows_of_others_are_refused(loop):
    loop.stack(members_of(loop)[:2])
    with pytest.raises(ValueError, match=r"shape \(steps, 2, 2B\).*Received: rows of shape \(7, 3"):
        loop.run(ROWS, PARAMS)
    with pytest.raises(ValueError, match=f"indices of the {N} examples. Received: rows from -1 to"):
        loop.run(ROWS[:, :2] - ROWS.min() - 1, PARAMS[:, :2])


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate", MemoryError),
        ("INTERNAL: something else", RuntimeError),
    ],
)
def test_no_room_on_the_device(loop, monkeypatch, message, error):
    # XLA says so by an error with this status; any other error is none of ours.
    import jax

    def fail(*_):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(loop, "_program", fail)
    loop.stack(members_of(loop))
    with pytest.raises(error, match=message):
        loop.run(ROWS, PARAMS)
