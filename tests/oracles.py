"""Second implementations, in NumPy and float64, that the tests hold the package against."""

import numpy as np


def softmax(logits):
    """Row-wise softmax."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


class TanhNet:
    """Two dense layers with tanh between, softmax cross-entropy; gradients by hand.

    Weights are a list `[w1, b1, w2, b2]` as Keras orders them.
    """

    @staticmethod
    def example_gradients(weights, x, y):
        """Gradient of each example's loss, as an array `(examples, parameters)`."""
        w1, b1, w2, b2 = [np.asarray(w, np.float64) for w in weights]
        hidden = np.tanh(x @ w1 + b1)
        delta2 = softmax(hidden @ w2 + b2)
        delta2[np.arange(len(y)), y] -= 1.0
        delta1 = (delta2 @ w2.T) * (1 - hidden**2)
        rows = []
        for i in range(len(x)):
            parts = [
                np.outer(x[i], delta1[i]),
                delta1[i],
                np.outer(hidden[i], delta2[i]),
                delta2[i],
            ]
            rows.append(np.concatenate([part.ravel() for part in parts]))
        return np.array(rows)

    @staticmethod
    def loss(weights, x, y):
        """Mean cross-entropy."""
        w1, b1, w2, b2 = [np.asarray(w, np.float64) for w in weights]
        probabilities = softmax(np.tanh(x @ w1 + b1) @ w2 + b2)
        return -np.mean(np.log(probabilities[np.arange(len(y)), y]))


def flatten(arrays):
    """Arrays as one vector."""
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def linear_svag_moments(a, b, eta, ell, x0, steps):
    """Exact first and second moments of SVAG on the losses a_i x^2 / 2 + b_i x, B = 1.

    With i uniform over the table, one step is `x <- (1 - h A) x - h b`, `h = eta / ell`, where
    (A, b) has the mean of the table and `ell` times its covariance; hence a linear recursion for
    (1, E x, E x^2).

    Returns:
        Array of shape `(steps + 1, 2)`: E x and E x^2 after each step.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    h = eta / ell
    mean_a, mean_b = a.mean(), b.mean()
    aa = mean_a**2 + ell * a.var()
    bb = mean_b**2 + ell * b.var()
    ab = mean_a * mean_b + ell * np.mean((a - mean_a) * (b - mean_b))
    step = np.array(
        [
            [1, 0, 0],
            [-h * mean_b, 1 - h * mean_a, 0],
            [h * h * bb, -2 * h * mean_b + 2 * h * h * ab, 1 - 2 * h * mean_a + h * h * aa],
        ]
    )
    state = np.array([1.0, x0, x0**2])
    moments = [state[1:]]
    for _ in range(steps):
        state = step @ state
        moments.append(state[1:])
    return np.array(moments)
