"""A recipe: model, data, loss and optimizer at a batch size."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree

from keras_svag._checks import error_text, finite_float, positive_int, shortest_float
from keras_svag._keras import decays_all, get_learning_rate
from keras_svag.datasets import PadCropFlip, Sampler
from keras_svag.datasets.uniform import as_augmentation, check_augmentation
from keras_svag.distribution import check_same_on_all
from keras_svag.optimizers.registry import rebuild, svag_version
from keras_svag.optimizers.scaling import AUTO, find_rule, scale_optimizer
from keras_svag.recipe import arrays, compile_arguments, identity
from keras_svag.recipe import model as model_checks
from keras_svag.recipe.canonical import short_digest
from keras_svag.recipe.facts import TrainingFacts, effective_steps
from keras_svag.recipe.rates import call_schedule, tabulate
from keras_svag.schedules import ScaledSchedule
from keras_svag.theory.sampling_modes import WITH_REPLACEMENT
from keras_svag.version import backend_versions

Schedule = keras.optimizers.schedules.LearningRateSchedule


class Recipe:
    """A training run to study: model, data, loss and optimizer at a batch size.

    Studies train a recipe from several seeds, at other batch sizes with hyperparameters scaled
    accordingly, and with amplified gradient noise (SVAG; Li, Malladi, Arora 2021, arXiv
    2102.12470).

    Args:
        model: function of an int seed that returns a new `keras.Model` with the initial weights of
            that seed (call `keras.utils.set_random_seed(seed)` first). Functional, Sequential or
            subclassed, with any structure of inputs and outputs.
        train_data: `x`, `(x, y)` or `(x, y, sample_weight)` as for `fit`: arrays, or structures of
            arrays, of n examples each.
        optimizer: Keras optimizer with a scaling rule (SGD, RMSprop, Adam, AdamW, or one with a
            custom SVAG version), or an SVAG optimizer, with the hyperparameters for `batch_size`. A
            learning-rate schedule counts steps at `batch_size`; other batch sizes stretch it over
            the same epochs. The optimizer is not modified.
        loss: as for `compile`.
        batch_size: int, B, the batch size of the run.
        epochs: number > 0, length of the run in passes over the training set.
        test_data: as `train_data`, for evaluation. Defaults to `None`.
        metrics: list (or structure) of metrics, as for `compile`. Defaults to `()`.
        augment: pure function `augment(x, u)` that returns augmented inputs of the same shapes.
            `u` is a float32 array of shape `(len(x), num_uniforms)`, uniform in [0, 1), drawn anew
            at every step. It becomes part of the compiled step, so use `keras.ops`. Or an object
            such as `keras_svag.datasets.PadCropFlip`. Training only. Defaults to `None`.
        preprocess: pure function of a batch of inputs, applied after `augment` in training and in
            evaluation, such as `keras_svag.datasets.Normalization`. Defaults to `None`.
        sampling: how batches are drawn, one of `keras_svag.datasets.SAMPLING_MODES`. Defaults to
            `"with_replacement"`, the setting of the theory.
        rule: name of the scaling rule, see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        schedule: function `(learning_rate, total)` that returns the schedule of a run of `total`
            steps, such as those of `keras_svag.schedules`, instead of a schedule in `optimizer`.
            Defaults to `None`.
        num_uniforms: int, uniform numbers per example for `augment`. Defaults to `4`.

    Raises:
        ValueError: if an argument is invalid; the message names the array by its path.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> import keras_svag
    >>> def build(seed):
    ...     keras.utils.set_random_seed(seed)
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> recipe = keras_svag.Recipe(
    ...     build,
    ...     train_data=(x, x[:, :1]),
    ...     optimizer=keras.optimizers.SGD(0.1),
    ...     loss="mse",
    ...     batch_size=8,
    ...     epochs=2,
    ... )
    >>> recipe.facts.steps_at(8), recipe.facts.learning_rate_at(16)
    (16, 0.2)
    """

    # Origin, such as "my_file.py:make_recipe", and the modules that workers import first.
    source: str | None = None
    modules: tuple[tuple[str, str], ...] = ()
    # Name of the data in environment.json.
    data_name = "arrays"

    def __init__(
        self,
        model: Callable[[int], keras.Model],
        train_data: Any,
        optimizer: keras.optimizers.Optimizer,
        loss: Any,
        batch_size: int,
        epochs: float,
        test_data: Any = None,
        metrics: Sequence | dict = (),
        augment: Callable | PadCropFlip | None = None,
        preprocess: Callable | None = None,
        sampling: str = WITH_REPLACEMENT,
        rule: str = AUTO,
        schedule: Callable[[float, int], keras.optimizers.schedules.LearningRateSchedule]
        | None = None,
        num_uniforms: int = 4,
    ):
        if not callable(model) or isinstance(model, keras.Model):
            raise ValueError(
                "`model` must be a function of a seed that returns a new keras.Model. "
                f"Received: model={model!r}"
            )
        for name, value in (("preprocess", preprocess), ("schedule", schedule)):
            if value is not None and (not callable(value) or isinstance(value, keras.Model)):
                raise ValueError(f"`{name}` must be a function or None. Received: {name}={value!r}")
        self.model = model
        self.train_data = arrays.check_data("train_data", train_data)
        self.test_data = None if test_data is None else arrays.check_data("test_data", test_data)
        if self.test_data is not None:
            arrays.check_same_examples(self.train_data, self.test_data)
        self.optimizer = optimizer
        self.svag = svag_version(optimizer)
        compile_arguments.check_optimizer(optimizer)
        compile_arguments.check_metrics(metrics)
        self.loss, self.metrics = loss, metrics
        self.batch_size = positive_int("batch_size", batch_size)
        self.epochs = finite_float("epochs", epochs, "a number > 0", 0.0, exclusive=True)
        self.augmentation = as_augmentation(augment, num_uniforms)
        self.preprocess = preprocess
        self.rule = find_rule(self.svag, rule).name
        self.schedule = schedule
        self.sampling = Sampler(self.num_train, self.batch_size, sampling).mode

    @property
    def num_train(self) -> int:
        """n, number of training examples."""
        return arrays.num_examples(self.train_data)

    def inputs(self, x, augment_params=None):
        """Inputs as the network sees them: augmented, if there are parameters, and preprocessed."""
        if augment_params is not None:
            x = self.augmentation.apply(x, augment_params)
        return x if self.preprocess is None else self.preprocess(x)

    def _preprocessed(self, x):
        """The inputs of some examples; raises if `preprocess` fails or returns none."""
        expected = (
            "`preprocess` must be a function of a batch of inputs that returns arrays. "
            f"Received: preprocess={self.preprocess!r}, which "
        )
        try:
            inputs = self.inputs(x)
        except Exception as error:
            raise ValueError(f"{expected}raised {error_text(error)}") from error
        if not all(hasattr(leaf, "shape") for leaf in tree.flatten(inputs)):
            raise ValueError(f"{expected}returned {type(inputs).__name__}")
        return inputs

    def __getstate__(self):
        # Worker processes build their own networks, but need not compute the facts again.
        self.facts  # noqa: B018
        return {name: value for name, value in vars(self).items() if name != "network"}

    def build(self, seed: int) -> keras.Model:
        """Returns the network with the initial weights of a seed."""
        return model_checks.call_model_function(self.model, seed, self.first_inputs(1))

    def first_inputs(self, count):
        """The first training inputs, as the network sees them."""
        return self.inputs(arrays.take(self.train_data[0], slice(count)))

    @functools.cached_property
    def network(self):
        """The network of seed 0, with the model function checked."""
        # First, since processes with other variables or steps would wait for each other forever.
        check_same_on_all("recipe and versions", self._describe_everything)
        x, *rest = arrays.take(self.train_data, slice(2))
        x = self._preprocessed(x)
        network = model_checks.check_model_function(
            self.model, self.build, (x, *rest), self.compile_arguments()
        )
        for name in ("train_data", "test_data"):
            _, *targets = getattr(self, name) or (None,)
            if targets:
                compile_arguments.check_labels(name, self.loss, targets[0], network(x))
        if self.augmentation is not None:
            check_augmentation(self.augmentation, arrays.take(self.train_data[0], slice(4)))
        return network

    @functools.cached_property
    def facts(self) -> TrainingFacts:
        """`TrainingFacts` of this recipe; builds the network."""
        # 16 examples are enough to see if a network is scale invariant.
        properties = model_checks.network_properties(self.network, self.first_inputs(16))
        rule = find_rule(self.svag, self.rule)
        return TrainingFacts(
            optimizer=type(self.svag).__name__,
            momentum=float(getattr(self.svag, "momentum", 0.0) or 0.0),
            rule=self.rule,
            learning_rate=self._peak_learning_rate(),
            learning_rate_power=rule.powers["learning_rate"],
            weight_decay=float(self.svag.weight_decay or 0.0),
            weight_decay_power=rule.powers.get("weight_decay", 0.0),
            decays_all_weights=not self.svag.weight_decay
            or decays_all(self.svag, self.network.trainable_variables),
            batch_size=self.batch_size,
            epochs=self.epochs,
            num_train=self.num_train,
            sampling=self.sampling,
            **properties,
        )

    @property
    def _base_rate(self):
        """Learning rate of the given optimizer, a float or a schedule."""
        rate = get_learning_rate(self.svag)
        return rate if isinstance(rate, Schedule) else shortest_float(self.svag.learning_rate)

    def _peak_learning_rate(self):
        rate = self._base_rate
        if isinstance(rate, Schedule):
            total = effective_steps(self.epochs, self.num_train, self.batch_size)
            return shortest_float(tabulate(rate, total).max())
        return rate

    def schedule_at(self, batch_size):
        """Learning rate at a batch size, a float or a schedule of the run's steps."""
        rate, facts = self._base_rate, self.facts
        if isinstance(rate, Schedule):
            kappa = batch_size / self.batch_size
            factor = kappa**facts.learning_rate_power
            return rate if kappa == 1 else ScaledSchedule(rate, factor=factor, time_scale=1 / kappa)
        rate = facts.learning_rate_at(batch_size)
        if self.schedule is None:
            return rate
        return call_schedule(self.schedule, rate, facts.steps_at(batch_size))

    def optimizer_at(self, batch_size: int) -> keras.optimizers.Optimizer:
        """Returns a new SVAG optimizer for a batch size, scaled by the rule, with `ell = 1`."""
        base = rebuild(self.svag, learning_rate=self.facts.learning_rate)
        scaled = scale_optimizer(base, batch_size / self.batch_size, self.rule)
        return rebuild(scaled, learning_rate=self.schedule_at(batch_size))

    def compile_arguments(self):
        """Loss, and new metrics, for `compile`."""
        return {"loss": self.loss, "metrics": compile_arguments.copy_metrics(self.metrics)}

    def fingerprint(self) -> str:
        """SHA-256 of the data."""
        return arrays.fingerprint(self.train_data, self.test_data)

    def describe(self) -> dict:
        """Describes the recipe for `config.json`, as a dict."""
        parts = {
            "source": self.source,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "optimizer": identity.describe_optimizer(self.optimizer),
            "rule": self.rule,
            "schedule": identity.describe_function(self.schedule),
            "loss": identity.describe_losses(self.loss),
            "metrics": identity.describe_losses(self.metrics),
            "augment": identity.describe_function(
                getattr(self.augmentation, "function", self.augmentation)
            ),
            "num_uniforms": getattr(self.augmentation, "num_uniforms", None),
            "preprocess": identity.describe_function(self.preprocess),
            "sampling": self.sampling,
        }
        return {**parts, "digest": short_digest(sorted(parts.items()))}

    def _describe_everything(self):
        """Describes what the processes of a strategy must have in common, as a dict."""
        recipe = {k: v for k, v in self.describe().items() if k not in ("source", "digest")}
        backend = keras.backend.backend()
        return {
            **recipe,
            "model": identity.describe_function(self.model),
            "data": self.fingerprint(),
            "backend": backend,
            "dtype_policy": keras.config.dtype_policy().name,
            "versions": backend_versions(backend),
        }

    def describe_network(self):
        """Describes the network of seed 0 for `environment.json`, as a dict."""
        network = model_checks.describe_network(self.network, self.first_inputs(2))
        return {"function": identity.describe_function(self.model), **network}
