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
