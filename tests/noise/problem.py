"""A linear model on a table of examples, whose N and G are known, and a train step of its own."""

import keras
import numpy as np

IS_JAX = keras.backend.backend() == "jax"
NUM, DIM = 160, 3
RNG = np.random.default_rng(5)
X = RNG.normal(size=(NUM, DIM)).astype("float32")
Y = (X @ RNG.normal(size=(DIM, 1)) + RNG.normal(size=(NUM, 1))).astype("float32")
KERNEL = np.array([[0.2], [-0.1], [0.3]], "float32")


def example_gradients(x=X, y=Y, kernel=KERNEL):
    """The gradient of the squared error of each example, in float64."""
    x, y, kernel = (np.asarray(a, np.float64) for a in (x, y, kernel))
    return 2 * (x @ kernel - y) * x


def exact(gradients=None):
    """N of a single example drawn with replacement, and G."""
    gradients = example_gradients() if gradients is None else gradients
    return np.var(gradients, axis=0).sum(), np.square(gradients.mean(axis=0)).sum()


def estimates(gradients):
    """N and G from the gradients of k batches, by their definition."""
    count, mean = len(gradients), np.mean(gradients, axis=0)
    noise = np.square(gradients - mean).sum() / (count - 1)
    return noise, mean @ mean - noise / count


if IS_JAX:
    import jax

    class OwnStep(keras.Model):
        """A model with a train step of its own."""

        def train_step(self, state, data):
            """As in Keras' guide for JAX, without metrics."""
            weights, others, optimizer_variables, metrics = state
            x, y = data

            def loss_of(weights):
                y_pred, _ = self.stateless_call(weights, others, x, training=True)
                loss = keras.ops.mean(keras.ops.square(keras.ops.cast(y_pred, "float32") - y))
                scope = zip(self.optimizer.variables, optimizer_variables)
                with keras.StatelessScope(state_mapping=list(scope)):
                    return self.optimizer.scale_loss(loss), loss

            (_, loss), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
            apply = self.optimizer.stateless_apply
            weights, optimizer_variables = apply(optimizer_variables, gradients, weights)
            return {"loss": loss}, (weights, others, optimizer_variables, metrics)

else:
    import tensorflow as tf

    class OwnStep(keras.Model):
        """A model with a train step of its own."""

        def train_step(self, data):
            """As in Keras' guide for TensorFlow, without metrics."""
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
                scaled = self.optimizer.scale_loss(loss)
            gradients = tape.gradient(scaled, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables))
            return {"loss": loss}


def own_model(optimizer, cls=OwnStep, dtype=None, regularizer=None, **options):
    """The linear model with a train step of its own, at the known weights."""
    inputs = keras.Input((DIM,))
    dense = keras.layers.Dense(
        1, use_bias=False, dtype=dtype, kernel_regularizer=regularizer, name="linear"
    )
    model = cls(inputs, dense(inputs))
    model.set_weights([KERNEL])
    model.compile(optimizer, "mse", **{"jit_compile": IS_JAX, **options})
    return model
