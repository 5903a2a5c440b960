"""`GradientNoiseScale`: a metric of gradient noise and signal for any train step."""

import typing
from collections.abc import Sequence

from keras import ops

from keras_svag import _keras
from keras_svag._backend import backend_module
from keras_svag.noise.estimates import estimate, extend
from keras_svag.trainer.noise import (
    NUM_TOTALS,
    GradientStatistics,
    layer_names,
    loss_gradients,
    noise_and_signal,
    noise_and_signal_by_name,
    penalty_gradients,
    ratio_or_infinity,
)

backend: typing.Any = backend_module("keras_svag.noise")


class GradientNoiseScale(GradientStatistics):
    """Gradient noise N, signal G and the simple noise scale, from gradients of several batches.

    For models with a `train_step` of their own and for custom loops, which have several gradients
    per step where they accumulate micro-batches or train on replicas. From k gradients `g_i` of b
    examples each, with mean m, it estimates without bias

    - N, the trace of the covariance of `g_i`: `sum |g_i - m|^2 / (k - 1)`;
    - G, the squared norm of the gradient of the expected loss: `|m|^2 - N / k`.

    `result()` has the running means `gradient_noise` and `gradient_signal`, their ratio
    `noise_to_signal`, and `noise_scale`, `b N/G`: the simple noise scale of McCandlish et al., in
    examples. Steps with non-finite gradients are left out. There are three ways to update it, for
    what a train step has:

    - `update_state`: a list of k gradients;
    - `update_from_micro_batch`: one gradient after another, with an optimizer that accumulates them
      (`gradient_accumulation_steps`). Needs no memory beyond that of the optimizer;
    - `update_from_replicas`: the gradient of each replica of a TensorFlow strategy, which are
      averaged once more for it. On JAX, gradients are those of all devices from the start, and
      what each device contributes cannot be seen: use micro-batches there.

    If batches of a step differ in size, b is their harmonic mean. In shuffled epochs of n examples
    G is low by `b N / n`, as in `SVAGModel`. With batch norm the loss is that of b examples.

    Reference: [McCandlish et al., 2018](https://arxiv.org/abs/1812.06162), appendix A.

    Args:
        by_layer: also estimate each layer, as `gradient_noise/<layer>`, `gradient_signal/<layer>`
            and `noise_scale/<layer>`. Needs `weights` in updates, and on JAX `build(weights)`
            before the first one. Defaults to `False`.
        name: string, name of the metric. Defaults to `"gradient_noise_scale"`.
        dtype: dtype of the running sums. Defaults to `None`: float32.

    Example:

    >>> noise = GradientNoiseScale()
    >>> gradients = [[np.array([1.0, 3.0])], [np.array([3.0, 1.0])]]  # two micro-batches
    >>> noise.update_state(gradients, batch_size=8)
    >>> {name: round(float(value), 3) for name, value in noise.result().items()}
    {'gradient_noise': 4.0, 'gradient_signal': 6.0, 'noise_to_signal': 0.667, 'noise_scale': 5.333}
    """

    def __init__(self, by_layer: bool = False, name: str = "gradient_noise_scale", dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.by_layer = by_layer
        self._fold = False  # see `noise_and_signal`
        self._layers: tuple[str, ...] | None = None
        # What is known of the micro-batches since the last step: see `extend`.
        self._seen = self.add_weight(name="seen", initializer="zeros")
        self._inverse_sizes = self.add_weight(name="inverse_sizes", initializer="zeros")
        if not by_layer:
            self._add_parts(1)

    def build(self, weights: Sequence):
        """Creates the variables of each layer, if `by_layer=True`.

        Args:
            weights: trainable variables, as given to later updates.
        """
        if self.by_layer and self._layers is None:
            names = layer_names(weights)
            self._layers = tuple(dict.fromkeys(names))
            self._layer_noise = self.add_weight((len(self._layers),), "zeros", name="layer_noise")
            self._layer_signal = self.add_weight((len(self._layers),), "zeros", name="layer_signal")
            self._add_parts(len(self._layers))

    def _add_parts(self, count):
        self._spread = self.add_weight((count,), "zeros", name="spread")
        self._square = self.add_weight((count,), "zeros", name="square")

    @property
    def layers(self):
        """Paths of the layers, in the order of their weights; empty without `by_layer`."""
        return self._layers or ()

    def update_state(self, gradients: Sequence[Sequence], batch_size, weights=None):
        """Adds a step from the gradients of k batches.

        Args:
            gradients: k >= 2 lists of gradients, each with one tensor or `None` per weight, of the
                mean loss of a batch: without the factor of `scale_loss`, if there is one.
            batch_size: examples in each batch, or a list of k such numbers.
            weights: the variables that the gradients belong to. Needed for `by_layer`, and to leave
                out the gradients of weight regularizers, which are no noise but add to G. On JAX,
                their values are those in the current `keras.StatelessScope`. Defaults to `None`.

        Raises:
            ValueError: if there are fewer than two gradients, or `by_layer` lacks `weights`.
        """
        count = len(gradients)
        if count < 2:
            raise ValueError(
                "`gradients` must be a list of the gradients of at least 2 batches, each a list "
                f"with one tensor per weight. Received: {count} of them. Cut the batch into parts."
            )
        names, penalties = self._describe(gradients[0], weights)
        weights = weights or [None] * len(penalties)
        gradients = [loss_gradients(weights, _dense(g), penalties) for g in gradients]
        mean = [None if g[0] is None else sum(g) / count for g in zip(*gradients)]
        spread = 2.0 * sum(self._compare(g, mean, names)[0] for g in gradients)
        square = self._compare(mean, mean, names)[1]
        sizes = batch_size if isinstance(batch_size, (list, tuple)) else [batch_size] * count
        sizes = [ops.cast(size, self.dtype) for size in sizes]
        self._add(spread, square, count, sum(1.0 / size for size in sizes), sum(sizes))

    def update_from_micro_batch(self, optimizer, gradients: Sequence, batch_size, weights=None):
        """Adds a micro-batch; call it before each `apply` of an optimizer that accumulates.

        A step is added with the last micro-batch before the optimizer updates the weights.

        Args:
            optimizer: `keras.optimizers.Optimizer` with `gradient_accumulation_steps`.
            gradients: the list that `apply` will be given; the factor of `scale_loss` is removed.
            batch_size: examples in the micro-batch.
            weights: as in `update_state`. Defaults to `None`: those that the optimizer is built
                with.

        Raises:
            ValueError: if the optimizer does not accumulate gradients.
        """
        noise, signal, position, count = self._compare_micro_batch(optimizer, gradients, weights)
        finite = ops.isfinite(ops.sum(noise + signal))

        def earlier(variable):
            value = ops.convert_to_tensor(variable)
            return ops.where(position > 0, value, ops.zeros_like(value))

        spread, square = extend(
            earlier(self._spread), earlier(self._square), position, noise, signal
        )
        inverse = earlier(self._inverse_sizes) + 1.0 / ops.cast(batch_size, self.dtype)
        seen = earlier(self._seen) + 1.0
        state = [self._spread, self._square, self._inverse_sizes, self._seen]
        for variable, value in zip(state, [spread, square, inverse, seen]):
            # Loss scaling skips gradients that are not finite, and the optimizer does not count on.
            variable.assign(ops.where(finite, value, ops.convert_to_tensor(variable)))
        is_last = finite & (seen == count) & (position == count - 1)
        self._add(spread, square / count**2, count, inverse, batch_size, is_last)

    def update_from_replicas(self, gradients: Sequence, batch_size, weights=None, optimizer=None):
        """Adds a step; call it in each replica of a TensorFlow strategy, in `Strategy.run`.

        Args:
            gradients: those of this replica, which add up to that of the whole batch, as the loss
                of Keras has it: it is divided by the number of replicas.
            batch_size: examples in this replica's part of the batch.
            weights: as in `update_state`. Defaults to `None`.
            optimizer: the optimizer whose `scale_loss` was applied, if any. Defaults to `None`.

        Raises:
            ValueError: outside of a strategy of several replicas, and on JAX.
        """
        replicas = backend.check_replicas()
        scale = ops.cast(1.0 if optimizer is None else optimizer.scale_loss(1.0), "float32")
        names, penalties = self._describe(gradients, weights)
        weights = weights or [None] * len(penalties)
        gradients = loss_gradients(weights, _dense(gradients), penalties, replicas / scale)
        mean = [None if g is None else g / replicas for g in gradients]
        mean = backend.sum_over_replicas(mean)
        spread = 2.0 * self._compare(gradients, mean, names)[0]
        batch_size = ops.cast(batch_size, self.dtype)
        spread, inverse = backend.sum_over_replicas([spread, 1.0 / batch_size])
        square = self._compare(mean, mean, names)[1]
        self._add(spread, square, replicas, inverse, batch_size)

    def _compare_micro_batch(self, optimizer, gradients, weights=None):
        """Returns `|g - m|^2/2` and `<g, m>` by layer, the position of g, and k."""
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        count = inner.gradient_accumulation_steps
        if not count:
            raise ValueError(
                "`optimizer` must accumulate gradients. Received: optimizer with "
                f"gradient_accumulation_steps={count}. Set it, or give the gradients of several "
                "parts of the batch to `update_state`."
            )
        weights = list(_keras.built_weights(inner) if weights is None else weights)
        if not optimizer.built:
            optimizer.build(weights)
        position, sums = _keras.accumulation_state(inner, weights)
        position = ops.cast(position, self.dtype)
        names, penalties = self._describe(gradients, weights)
        factor = 1.0 / ops.cast(optimizer.scale_loss(1.0), "float32")
        gradients = loss_gradients(weights, _dense(gradients), penalties, factor)
        # At position 0 sums and mean are 0.
        started = ops.minimum(position, 1.0)
        penalties = [None if p is None else p * ops.cast(started, p.dtype) for p in penalties]
        mean = loss_gradients(weights, sums, penalties, 1.0 / ops.maximum(position, 1.0))
        return *self._compare(gradients, mean, names), position, count

    def _describe(self, gradients, weights):
        """Returns the layer of each gradient, or `None`, and the gradients of regularizers."""
        if weights is None:
            if self.by_layer:
                raise ValueError(
                    "`weights` must be given with by_layer=True. Received: weights=None. Pass the "
                    "variables that the gradients belong to, such as model.trainable_weights."
                )
            return None, [None] * len(gradients)
        if len(weights) != len(gradients):
            raise ValueError(
                "`gradients` must have one tensor or `None` per weight. Received: "
                f"{len(gradients)} gradients for {len(weights)} weights."
            )
        backend.check_current(weights, gradients)
        self.build(weights)
        names = layer_names(weights) if self.by_layer else None
        if names is not None and tuple(dict.fromkeys(names)) != self._layers:
            raise ValueError(
                "`weights` must be those of the first update or of `build`, in the same order. "
                f"Received: weights of the layers {list(dict.fromkeys(names))} instead of "
                f"{list(self.layers)}. Use another GradientNoiseScale for other weights."
            )
        return names, penalty_gradients(weights, backend.differentiate)

    def _compare(self, first, second, names):
        """Returns `|first - second|^2 / 2` and `<first, second>`, for each layer or in all."""
        if names is None:
            pairs = [noise_and_signal(first, second, self._fold)]
        else:
            pairs = noise_and_signal_by_name(first, second, names, self._fold).values()
        noises, signals = zip(*pairs)
        return ops.cast(ops.stack(noises), self.dtype), ops.cast(ops.stack(signals), self.dtype)

    def _add(self, spread, square, count, inverse_sizes, batch_size, is_step=True):
        noise, signal = estimate(spread, square, count)
        replicas = backend.num_gradient_shards()
        weight = ops.where(is_step, count / inverse_sizes / replicas, 0.0)
        total = ops.sum(noise), ops.sum(signal)
        super().update_state(*total, weight, batch_size=batch_size, replicas=replicas)
        if self.by_layer:
            usable = ops.isfinite(total[0] + total[1]) & (weight > 0)
            for variable, value in ((self._layer_noise, noise), (self._layer_signal, signal)):
                variable.assign_add(ops.where(usable, weight * value, 0.0))

    def reset_state(self):
        """Resets the means; a step whose micro-batches have begun goes on."""
        going_on = [self._seen, self._inverse_sizes]
        if self._layers is not None or not self.by_layer:
            going_on += [self._spread, self._square]
        kept = set(map(id, going_on))
        for variable in self.variables:
            if id(variable) not in kept:
                variable.assign(ops.zeros(variable.shape, dtype=variable.dtype))

    def result(self):
        """Returns the means, `noise_to_signal` and `noise_scale`, as a dict; see the class."""
        logs = super().result()
        noise, signal, weight, steps, _ = ops.unstack(self.totals(), NUM_TOTALS)
        steps, weight = ops.maximum(steps, 1e-30), ops.maximum(weight, 1e-30)
        logs["noise_scale"] = ratio_or_infinity(noise / steps, signal / weight)
        for i, name in enumerate(self.layers):
            noise, signal = self._layer_noise[i], self._layer_signal[i]
            logs[f"gradient_noise/{name}"] = noise / weight
            logs[f"gradient_signal/{name}"] = signal / weight
            logs[f"noise_scale/{name}"] = ratio_or_infinity(noise / steps, signal / weight)
        return logs

    def get_config(self):
        """Returns the arguments of the constructor."""
        return {**super().get_config(), "by_layer": self.by_layer}


def _dense(gradients):
    return [None if g is None else backend.densify(g) for g in gradients]
