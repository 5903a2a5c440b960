"""P5: BatchSizeAdvisor on models with a train step of their own, by accumulated gradients."""

import warnings

import keras
import numpy as np
import pytest

import keras_svag
from keras_svag.callbacks import BatchSizeAdvisor, BatchSizeSchedule
from keras_svag.datasets import SampledBatches
from tests.noise.problem import IS_JAX, KERNEL, OwnStep, X, Y, exact, own_model


def sgd(rate=0.0, steps=4, **options):
    return keras.optimizers.SGD(rate, gradient_accumulation_steps=steps, **options)


def fit(model, half=2, epochs=2, seed=0, **options):
    """Advisor and logs of `fit` on batches of 2 `half` examples, drawn with replacement."""
    advisor = BatchSizeAdvisor(verbose=0, **options)
    batches = SampledBatches(X, Y, half, seed=seed)
    logs = model.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[advisor]).history
    return advisor, logs


def mean_and_error(logs, size):
    """Means of N of an example and of G over epochs, with standard errors."""
    values = np.array([np.multiply(size, logs["gradient_noise"]), logs["gradient_signal"]])
    return values.mean(axis=1), values.std(axis=1, ddof=1) / values.shape[1] ** 0.5


def test_p5_micro_batches_the_split_step_and_the_truth_agree():
    # 20 epochs of 40 micro-batches of 4, that is of 10 steps; and of 10 split steps of 2 x 8.
    _, logs = fit(own_model(sgd()), half=2, epochs=20)
    micro, micro_error = mean_and_error(logs, 4)
    split_model = keras_svag.from_keras(own_model(sgd(), cls=keras.Model))
    split_model.compile(keras.optimizers.SGD(0.0), "mse", jit_compile=IS_JAX)
    _, logs = fit(split_model, half=8, epochs=20, seed=1)
    split, split_error = mean_and_error(logs, 8)
    assert (np.abs(micro - exact()) < 2 * micro_error).all()
    assert (np.abs(split - exact()) < 2 * split_error).all()
    assert (np.abs(micro - split) < 2 * np.hypot(micro_error, split_error)).all()
    # So precise that a factor of 2 would be seen.
    assert (micro_error < 0.2 * np.array(exact())).all()


def test_p5_advice_has_batch_size_and_scale():
    for half, steps, executed in ((2, 4, 1), (5, 3, 1), (3, 2, 4)):
        model = own_model(sgd(1e-3, steps), steps_per_execution=executed)
        advisor, logs = fit(model, half, epochs=3)
        advice = advisor.advice
        assert (advice.batch_size, advice.fit_batch_size) == (2 * half * steps, 2 * half)
        last = advisor._recorder.rows[-1]
        if half == 5:  # one reading an epoch: of a single example, over G
            scale = last["gradient_noise"] / last["gradient_signal"]
            assert scale == pytest.approx(logs["noise_scale"][-1], rel=1e-4)
        assert {"gradient_noise", "gradient_signal", "noise_to_signal", "noise_scale"} < set(logs)
    # A short last batch: of 160 examples in batches of 14 the last one has 6.
    advisor = BatchSizeAdvisor(verbose=0)
    own_model(sgd(1e-3)).fit(X, Y, batch_size=14, epochs=2, verbose=0, callbacks=[advisor])
    assert advisor.advice.fit_batch_size == 14


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_training_is_left_alone(policy):
    ends = []
    for callbacks in ([], [BatchSizeAdvisor(verbose=0)]):
        keras.utils.set_random_seed(0)  # Keras shuffles the batches
        # A regularizer, whose gradient is differentiated for the measurement alone.
        model = own_model(
            sgd(0.05, 2, momentum=0.5), dtype=policy, regularizer=keras.regularizers.L2(0.1)
        )
        if policy == "mixed_float16":
            scaled = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=2.0**30)
            model.compile(scaled, "mse", jit_compile=IS_JAX)
        model.fit(SampledBatches(X, Y, 4), epochs=2, verbose=0, callbacks=callbacks)
        inner = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        state = [*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)]
        ends.append([*state, np.array(int(inner.iterations))])
        assert "train_step" not in vars(model)
        assert not {"apply", "stateless_apply"} & set(vars(model.optimizer))
    for with_it, without in zip(*ends, strict=True):
        np.testing.assert_allclose(with_it, without, rtol=1e-6, atol=1e-7)


def test_p5_mixed_precision_measures_what_float32_does():
    found = []
    for policy in ("float32", "mixed_float16"):
        model = own_model(sgd(), dtype=policy, regularizer=keras.regularizers.L2(0.1))
        if policy == "mixed_float16":
            # Gradients overflow at first: steps are skipped and the scale falls.
            scaled = keras.optimizers.LossScaleOptimizer(model.optimizer, initial_scale=2.0**20)
            model.compile(scaled, "mse", jit_compile=IS_JAX)
        _, logs = fit(model, epochs=8)
        found.append(mean_and_error(logs, 4))
    # The loss of the train step on JAX lacks the regularizer, which is then taken off in vain.
    columns = slice(0, 1) if IS_JAX else slice(None)
    for (mean, error), (other, _) in (found, found[::-1]):
        assert (np.abs(mean - other)[columns] < error[columns]).all()
    if not IS_JAX:
        np.testing.assert_array_less(np.abs(found[0][0] - exact()), 3 * found[0][1])


def test_p5_advice_goes_on_when_the_batch_grows():
    # Hyperparameters of Adam change, and the train function is made anew.
    for order in (1, -1):
        model = own_model(keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))
        advisor = BatchSizeAdvisor(verbose=0)
        schedule = BatchSizeSchedule(4, 2, at=[2], verbose=0)
        data = schedule.batches(SampledBatches(X, Y, 4))
        logs = model.fit(data, epochs=4, verbose=0, callbacks=[schedule, advisor][::order]).history
        assert [advice.batch_size for advice in advisor.history] == [16, 16, 32, 32]
        assert len(logs["noise_scale"]) == 4
        assert advisor.history[-1].steps[1] == int(model.optimizer.iterations)


@pytest.mark.skipif(IS_JAX, reason="`stateless_apply` on JAX")
def test_p5_gradients_may_be_keywords_of_apply():
    class Keywords(OwnStep):
        def train_step(self, data):
            import tensorflow as tf

            weights = self.trainable_variables
            with tf.GradientTape() as tape:
                loss = self.compute_loss(*data, self(data[0], training=True))
            gradients = tape.gradient(loss, weights)
            self.optimizer.apply(grads=gradients, trainable_variables=weights)
            return {"loss": loss}

    advisor, _ = fit(own_model(sgd(), cls=Keywords))
    assert advisor.advice.batch_size == 16


def test_a_second_fit_compiles_nothing():
    traces = []

    class Counted(OwnStep):
        def train_step(self, *args):
            traces.append(1)
            return super().train_step(*args)

    model, advisor = own_model(sgd(), cls=Counted), BatchSizeAdvisor(verbose=0)
    batches = SampledBatches(X, Y, 2)
    model.fit(batches, verbose=0, callbacks=[advisor])
    first = len(traces)
    for _ in range(3):
        model.fit(batches, verbose=0, callbacks=[advisor])
    assert len(traces) == first and len(advisor.history) == 4
    model.fit(batches, verbose=0)  # without: the function that does not measure
    assert "noise_scale" not in model.fit(batches, verbose=0).history
    assert len(advisor.history) == 4


def test_p8_by_layer_in_logs_and_figure():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh", name="hidden")(inputs)
    model = OwnStep(inputs, keras.layers.Dense(1, name="head")(hidden))
    model.compile(sgd(0.01, 2), "mse", jit_compile=IS_JAX)
    advisor, logs = fit(model, epochs=3, by_layer=True)
    assert {"noise_scale/hidden", "noise_scale/head"} < set(logs)
    layers = advisor._recorder.rows[-1]["layers"]
    for i, name in enumerate(["gradient_noise", "gradient_signal"]):
        total = sum(pair[i] for pair in layers.values())
        assert total == pytest.approx(advisor._recorder.rows[-1][name], rel=1e-3, abs=1e-3)
    labels = [t.get_text() for t in advisor.plot().axes[-1].get_xticklabels()]
    assert labels == ["hidden", "head"]


def test_where_nothing_can_be_measured():
    words = "Received: model=.*single gradient per step.*from_keras.*gradient_accumulation_steps"
    plain = own_model(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=f"{words}.*strategy.*GradientNoiseScale"):
        fit(plain)
    with pytest.raises(ValueError, match="Received: model=.*SVAG in a model.*from_keras"):
        fit(own_model(keras_svag.SVAG(0.1)))
    with pytest.raises(ValueError, match="`by_layer` must be False for an SVAGModel"):
        model = keras_svag.from_keras(own_model("sgd", cls=keras.Model))
        model.compile("sgd", "mse")
        fit(model, by_layer=True)
    with pytest.raises(ValueError, match="must not define its own `train_step`.*BatchSizeAdvisor"):
        keras_svag.from_keras(plain)


def test_faults_become_one_warning(monkeypatch):
    class OtherOptimizer(OwnStep):
        """A model whose `optimizer` is not the one that trains, as in a GAN."""

        def train_step(self, *args):
            return {"loss": keras.ops.zeros(())}, *args[:-1]

    class OtherOnTensorFlow(OtherOptimizer):
        def train_step(self, data):
            return super().train_step(data)[0]

    with pytest.warns(UserWarning, match="does not call `apply`.*GradientNoiseScale") as caught:
        fit(own_model(sgd(), cls=OtherOptimizer if IS_JAX else OtherOnTensorFlow), epochs=3)
    assert len([w for w in caught if "apply" in str(w.message)]) == 1

    def broken(*args):
        raise RuntimeError("broken")

    monkeypatch.setattr("keras_svag.noise.scale.noise_and_signal", broken)
    model = own_model(sgd(0.1, 2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(model, epochs=3)
    assert len([w for w in caught if "broken" in str(w.message)]) == 1
    assert np.abs(model.get_weights()[0] - KERNEL).max() > 0.01
