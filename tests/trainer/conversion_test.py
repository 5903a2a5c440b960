"""What `from_keras` takes is trained as its own `fit` would, or refused (findings K1, K2)."""

import keras
import numpy as np
import pytest

from keras_svag import SVAG, from_keras
from tests.oracles import TanhNet
from tests.trainer.exactness_test import cross_entropy, tanh_net
from tests.trainer.model_test import LOGS, OwnLoss, Subclassed, data


def built(cls):
    model = cls()
    model(np.ones((1, 3), "float32"))
    model.set_weights(tanh_net().get_weights())
    return model


@pytest.mark.parametrize("cls", [Subclassed, OwnLoss])
def test_k1_a_model_that_was_compiled_before_logs_the_true_loss(cls):
    x, y = data(8)
    logs, evaluations = [], []
    for is_compiled in (False, True):
        plain = built(cls)
        if is_compiled:
            plain.compile("adam", "mse", metrics=["mae"])
            plain.fit(x, np.ones((8, 2)), epochs=1, verbose=0)
            plain.set_weights(tanh_net().get_weights())
        model = from_keras(plain)
        model.compile(SVAG(0.1, ell=2), cross_entropy(), metrics=["accuracy"])
        history = model.fit(
            x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(x, y)
        )
        logs.append(history.history)
        evaluations.append(model.evaluate(x, y, verbose=0, return_dict=True))
    factor = 2 if cls is OwnLoss else 1
    first = factor * TanhNet.loss(tanh_net().get_weights(), np.float64(x), y)
    last = factor * TanhNet.loss(model.get_weights(), np.float64(x), y)
    np.testing.assert_allclose(logs[1]["loss"][0], first, rtol=1e-5)
    np.testing.assert_allclose(logs[1]["val_loss"][-1], last, rtol=1e-5)
    assert set(logs[0]) == set(logs[1]) >= LOGS | {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5)
    assert evaluations[0] == pytest.approx(evaluations[1])


def test_k1_callbacks_see_the_loss_of_a_model_that_was_compiled_before():
    x, y = data(8)
    plain = built(Subclassed)
    plain.compile("sgd", cross_entropy())
    model = from_keras(plain)
    model.compile(SVAG(0.1, ell=2), cross_entropy(), metrics=["accuracy"])
    stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=1)
    arguments = {"batch_size": 8, "epochs": 5, "verbose": 0, "validation_data": (x, y)}
    assert len(model.fit(x, y, callbacks=[stopping], **arguments).history["loss"]) == 5


def test_k1_the_converted_model_stays_as_it_was_compiled():
    x, y = data(8)
    plain = built(Subclassed)
    plain.compile("sgd", cross_entropy(), metrics=["accuracy"])
    model = from_keras(plain)
    model.compile(SVAG(0.1, ell=2), lambda y, p: 100.0 + 0.0 * keras.ops.sum(p, -1))
    assert model.fit(x, y, batch_size=8, verbose=0).history["loss"] == [100.0]
    expected = TanhNet.loss(plain.get_weights(), np.float64(x), y)
    after = plain.evaluate(x, y, verbose=0, return_dict=True)
    assert set(after) == {"loss", "accuracy"}
    np.testing.assert_allclose(after["loss"], expected, rtol=1e-5)


class OnlyTrainingLoss(Subclassed):
    """A model whose loss has a term in training only, which grows with the steps."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The compiled loss, in training plus the number of steps taken and ten."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss + 10.0 + keras.ops.cast(self.optimizer.iterations, "float32") * training


def test_own_loss_reads_training_and_the_optimizer():
    x, y = data(8)
    plain = built(OnlyTrainingLoss)
    model = from_keras(plain)
    model.compile(SVAG(0.0, ell=2), cross_entropy())
    history = model.fit(
        x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(x, y)
    ).history
    loss = TanhNet.loss(plain.get_weights(), np.float64(x), y)
    np.testing.assert_allclose(history["loss"], [loss + 10, loss + 11], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], [loss + 10, loss + 10], rtol=1e-5)


def with_pipeline(base):
    """Returns a subclass that preprocesses its data, as a task of KerasHub does."""

    class Pipeline(base):
        """Overrides all methods that take data."""

        def preprocess(self, x):
            """Turns words of three letters into three numbers, which `call` could not."""
            return np.array([[(ord(letter) - 110) / 8 for letter in word] for word in x], "float32")

        def compile(self, optimizer="sgd", loss="auto", **kwargs):
            """Has a default loss."""
            super().compile(optimizer, cross_entropy() if loss == "auto" else loss, **kwargs)

        def fit(self, x, y, validation_data=None, **kwargs):
            """Preprocesses both sets of data."""
            if validation_data is not None:
                validation_data = (self.preprocess(validation_data[0]), validation_data[1])
            return super().fit(self.preprocess(x), y, validation_data=validation_data, **kwargs)

        def evaluate(self, x, y, **kwargs):
            """Preprocesses, unless `fit` has."""
            if not kwargs.get("_use_cached_eval_dataset"):
                x = self.preprocess(x)
            return super().evaluate(x, y, **kwargs)

        def predict(self, x, **kwargs):
            """Preprocesses."""
            return super().predict(self.preprocess(x), **kwargs)

        def train_on_batch(self, x, y, **kwargs):
            """Preprocesses."""
            return super().train_on_batch(self.preprocess(x), y, **kwargs)

        def test_on_batch(self, x, y, **kwargs):
            """Preprocesses."""
            return super().test_on_batch(self.preprocess(x), y, **kwargs)

        def predict_on_batch(self, x):
            """Preprocesses."""
            return super().predict_on_batch(self.preprocess(x))

    return Pipeline


WORDS = ["cat", "dog", "emu", "fox", "gnu", "hen", "jay", "owl"]


@pytest.mark.parametrize("kind", ["subclassed", "functional"])
def test_k2_a_task_is_trained_with_its_preprocessor(kind):
    if kind == "subclassed":
        task = built(with_pipeline(Subclassed))
    else:
        network = tanh_net()
        task = with_pipeline(keras.Model)(network.inputs, network.outputs)
    x, y = task.preprocess(WORDS), np.arange(8) % 2
    expected = from_keras(tanh_net())
    arguments = {"batch_size": 4, "epochs": 2, "shuffle": False, "verbose": 0}
    expected.compile(SVAG(0.1, ell=2), cross_entropy(), metrics=["accuracy"])
    history = expected.fit(x, y, validation_data=(x, y), **arguments).history
    model = from_keras(task)
    model.compile(SVAG(0.1, ell=2), metrics=["accuracy"])
    own_history = model.fit(WORDS, y, validation_data=(WORDS, y), **arguments).history
    for name, values in history.items():
        np.testing.assert_allclose(own_history[name], values, rtol=1e-5)
    for weight, own in zip(expected.get_weights(), task.get_weights(), strict=True):
        np.testing.assert_allclose(own, weight, rtol=0, atol=1e-6)
    predictions = expected.predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(WORDS, verbose=0), predictions, rtol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(WORDS), predictions, rtol=1e-5)
    losses = [m.evaluate(a, y, verbose=0)[0] for m, a in ((model, WORDS), (expected, x))]
    losses += [m.test_on_batch(a, y)[0] for m, a in ((model, WORDS), (expected, x))]
    losses += [m.train_on_batch(a, y)[0] for m, a in ((model, WORDS), (expected, x))]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_losses_by_name_reach_the_outputs_of_a_functional_subclass():
    class TwoHeads(keras.Model):
        """A functional model with two outputs in a list."""

    x, y = data(8)
    targets = [y[:, None].astype("float32"), x[:, :1]]
    losses, histories = {"left": "mse", "right": "mae"}, []
    for is_subclass in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3,))
        outputs = [keras.layers.Dense(1, name=name)(inputs) for name in losses]
        model = from_keras((TwoHeads if is_subclass else keras.Model)(inputs, outputs))
        model.compile(SVAG(0.1, ell=2), losses)
        histories.append(model.fit(x, targets, batch_size=8, verbose=0).history)
    assert {"left_loss", "right_loss"} <= set(histories[0])
    assert histories[1] == histories[0]


@pytest.mark.parametrize("method", ["predict_step", "make_test_function", "make_predict_function"])
def test_k2_other_overrides_of_steps_are_refused(method):
    special = type("Special", (Subclassed,), {method: lambda self, *args: None})
    with pytest.raises(ValueError, match=f"own `{method}`.*Received"):
        from_keras(special())


def test_k2_a_fit_that_does_not_call_that_of_keras_is_refused():
    class OwnLoop(Subclassed):
        """Trains by itself."""

        def fit(self, x, y, **kwargs):
            """Does nothing."""

    model = from_keras(built(OwnLoop))
    model.compile(SVAG(0.1), cross_entropy())
    with pytest.raises(ValueError, match="must call `super"):
        model.fit(*data(8))


def test_k2_a_task_of_keras_hub():
    keras_hub = pytest.importorskip("keras_hub")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=words)
    preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8)
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "intermediate_dim": 16}
    y = np.arange(8) % 2
    histories = []
    for is_task in (True, False):
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.BertBackbone(
            len(words), **sizes, max_sequence_length=8, dropout=0.0
        )
        task = keras_hub.models.BertTextClassifier(
            backbone, num_classes=2, preprocessor=preprocessor, dropout=0.0
        )
        x = WORDS if is_task else {k: np.asarray(v) for k, v in preprocessor(WORDS).items()}
        model = from_keras(task if is_task else keras.Model(task.input, task.output))
        loss = {} if is_task else {"loss": cross_entropy()}
        model.compile(SVAG(0.1, ell=2), **loss)
        shuffle = {} if is_task else {"shuffle": False}
        histories.append(model.fit(x, y, batch_size=4, epochs=2, verbose=0, **shuffle).history)
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-4, err_msg=name)
