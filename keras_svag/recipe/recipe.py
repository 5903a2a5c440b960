"""`Recipe`: a model, data, a loss and an optimizer at a batch size."""

import functools

import keras

from keras_svag._checks import finite_float, positive_int, shortest_float
from keras_svag.datasets import Sampler
from keras_svag.datasets.uniform import as_augmentation, check_augmentation
from keras_svag.optimizers.registry import live_config, svag_version
from keras_svag.optimizers.scaling import AUTO, find_rule, scale_optimizer
from keras_svag.recipe import arrays, compile_arguments, identity
from keras_svag.recipe import model as model_checks
from keras_svag.recipe.facts import TrainingFacts
from keras_svag.recipe.rates import tabulate
from keras_svag.schedules import RescaledSchedule
from keras_svag.theory import WITH_REPLACEMENT

Schedule = keras.optimizers.schedules.LearningRateSchedule


class Recipe:
    """A training run to be studied: model, data, loss and an optimizer at a batch size.

    Everything a study does, it does to a recipe: it trains the model from many seeds, at other
    batch sizes with the hyperparameters scaled along, and with the gradient noise amplified (SVAG;
    Li, Malladi, Arora 2021, arXiv 2102.12470).

    Args:
        model: function of an int seed that returns a new `keras.Model` with the initial weights of
            that seed (call `keras.utils.set_random_seed(seed)` first). Functional, Sequential or
            subclassed, with any structure of inputs and outputs.
        train_data: `x`, `(x, y)` or `(x, y, sample_weight)` as `fit` takes them: arrays, or
            structures of arrays, with n examples each. Inputs stay on the device.
        optimizer: a Keras optimizer with a scaling rule (SGD, RMSprop, Adam, AdamW, or one with an
            SVAG version of your own), or an SVAG optimizer; hyperparameters are those at
            `batch_size`. A learning-rate schedule counts steps at `batch_size`; at other batch
            sizes it is stretched so that it covers the same epochs. It is not changed.
        loss: as for `compile`.
        batch_size: B, the batch size of the run, an int.
        epochs: length of the run in passes over the training set, a number > 0.
        test_data: as `train_data`, to evaluate on. Defaults to `None`: no evaluation on test data.
        metrics: list (or structure) of metrics, as for `compile`. Defaults to `()`.
        augment: pure function `augment(x, u)` of a batch of inputs and of uniform numbers in
            [0, 1), a float32 array of shape `(len(x), num_uniforms)` drawn anew for each step and
            place in the batch from the run's seed; it returns inputs of the same shapes and runs
            inside the compiled step, so use `keras.ops`. Or an object such as
            `keras_svag.datasets.PadCropFlip`. Training only. Defaults to `None`.
        preprocess: pure function of a batch of inputs, applied after `augment` in training and in
            evaluation, such as `keras_svag.datasets.Normalization`. Defaults to `None`.
        sampling: how batches are drawn, one of `keras_svag.datasets.SAMPLING_MODES`. Defaults to
            `"with_replacement"`, the setting of the theory.
        rule: scaling rule, see `keras_svag.scale_optimizer`. Defaults to `"auto"`.
        schedule: function `(learning_rate, total)` that returns the schedule of a run of `total`
            steps, such as those of `keras_svag.schedules`, in place of a schedule in `optimizer`.
            Defaults to `None`.
        num_uniforms: uniform numbers per example that `augment` gets. Defaults to `4`.

    Raises:
        ValueError: if an argument is wrong; arrays are named by their place in the structure.

    Example:

    >>> def build(seed):
    ...     keras.utils.set_random_seed(seed)
    ...     return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> x = np.random.default_rng(0).normal(size=(64, 4))
    >>> recipe = Recipe(
    ...     model=build, train_data=(x, x[:, :1]), optimizer=keras.optimizers.SGD(0.1), loss="mse",
    ...     batch_size=8, epochs=2,
    ... )
    >>> recipe.facts.steps_at(8), recipe.facts.learning_rate_at(16)
    (16, 0.2)
    """

    # Where the recipe comes from, such as "my_file.py:make_recipe"; and modules to import first.
    source = None
    modules = ()
    # Name of the data in environment.json.
    data_name = "arrays"

    def __init__(
        self,
        model,
        train_data,
        optimizer,
        loss,
        batch_size,
        epochs,
        test_data=None,
        metrics=(),
        augment=None,
        preprocess=None,
        sampling=WITH_REPLACEMENT,
        rule=AUTO,
        schedule=None,
        num_uniforms=4,
    ):
        for name, value in (("model", model), ("preprocess", preprocess), ("schedule", schedule)):
            if value is not None and (not callable(value) or isinstance(value, keras.Model)):
                raise ValueError(
                    f"`{name}` must be a function{' of a seed' if name == 'model' else ''}. "
                    f"Received: {name}={value!r}. Wrap it in one that builds it anew."
                )
        if model is None:
            raise ValueError("`model` must be a function of a seed. Received: model=None")
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
    def num_train(self):
        """n, number of training examples."""
        return arrays.num_examples(self.train_data)

    @property
    def base_steps(self):
        """Steps of the run at the recipe's batch size."""
        return max(1, round(self.epochs * self.num_train / self.batch_size))

    def inputs(self, x, draws=None):
        """Inputs as the network sees them: augmented if there are `draws`, and preprocessed."""
        if draws is not None:
            x = self.augmentation.apply(x, draws)
        return x if self.preprocess is None else self.preprocess(x)

    def __getstate__(self):
        # Worker processes build networks of their own; the facts they need not find out again.
        self.facts  # noqa: B018
        return {name: value for name, value in vars(self).items() if name != "network"}

    def build(self, seed):
        """The network with the initial weights of a seed."""
        return model_checks.call_model_function(self.model, seed, self.some_inputs(1))

    def some_inputs(self, count):
        """The first inputs of the training set, as the network sees them."""
        return self.inputs(arrays.take(self.train_data[0], slice(count)))

    @functools.cached_property
    def network(self):
        """The network of seed 0, after the checks of the model function."""
        x, *rest = arrays.take(self.train_data, slice(2))
        network = model_checks.check_model_function(
            self.model, self.build, (self.inputs(x), *rest), self.compile_arguments()
        )
        if self.augmentation is not None:
            check_augmentation(self.augmentation, arrays.take(self.train_data[0], slice(4)))
        return network

    @functools.cached_property
    def facts(self):
        """The `TrainingFacts` of this recipe; builds the network."""
        properties = model_checks.network_properties(
            self.network, self.train_data[0], self.preprocess
        )
        rule = find_rule(self.svag, self.rule)
        return TrainingFacts(
            optimizer=type(self.svag).__name__,
            momentum=float(getattr(self.svag, "momentum", 0.0) or 0.0),
            rule=self.rule,
            learning_rate=self._peak_learning_rate(),
            learning_rate_power=rule.powers["learning_rate"],
            weight_decay=float(self.svag.weight_decay or 0.0),
            weight_decay_power=rule.powers.get("weight_decay", 0.0),
            batch_size=self.batch_size,
            epochs=self.epochs,
            num_train=self.num_train,
            sampling=self.sampling,
            **properties,
        )

    @property
    def _given_rate(self):
        """The learning rate of the user's optimizer, a float or a schedule."""
        rate = self.svag._learning_rate
        return rate if isinstance(rate, Schedule) else shortest_float(self.svag.learning_rate)

    def _peak_learning_rate(self):
        rate = self._given_rate
        if isinstance(rate, Schedule):
            return shortest_float(tabulate(rate, self.base_steps).max())
        return rate

    def schedule_at(self, batch_size):
        """Learning rate of the run at a batch size: a float or a Keras schedule of its steps."""
        rate, facts = self._given_rate, self.facts
        if isinstance(rate, Schedule):
            kappa = batch_size / self.batch_size
            factor = kappa**facts.learning_rate_power
            return (
                rate if kappa == 1 else RescaledSchedule(rate, factor=factor, time_scale=1 / kappa)
            )
        rate = facts.learning_rate_at(batch_size)
        return rate if self.schedule is None else self.schedule(rate, facts.steps_at(batch_size))

    def optimizer_at(self, batch_size):
        """The SVAG optimizer of the run at a batch size, with `ell = 1`.

        Args:
            batch_size: B; hyperparameters are scaled by the rule from those at the recipe's.

        Returns:
            A new optimizer.

        Raises:
            ValueError: if the rule does not allow this batch size.
        """
        cls, peak = type(self.svag), self.facts.learning_rate
        base = cls.from_config({**live_config(self.svag), "learning_rate": peak})
        scaled = scale_optimizer(base, batch_size / self.batch_size, self.rule)
        config = {**scaled.get_config(), "learning_rate": self.schedule_at(batch_size)}
        return cls.from_config(config)

    def compile_arguments(self):
        """Loss and metrics for `compile`; metrics have variables, and are made anew."""
        return {"loss": self.loss, "metrics": compile_arguments.copy_metrics(self.metrics)}

    def fingerprint(self):
        """SHA-256 of the data."""
        return arrays.fingerprint(self.train_data, self.test_data)

    def describe(self):
        """What the recipe is, as a dict that JSON can hold: its identity for `config.json`."""
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
        return {**parts, "digest": identity.short_digest(sorted(parts.items()))}

    def describe_network(self):
        """What tells the network of seed 0 from others: see `recipe.model.describe_network`."""
        network = model_checks.describe_network(self.network, self.some_inputs(2))
        return {"function": identity.describe_function(self.model), **network}
