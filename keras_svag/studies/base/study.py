"""`Study`: what all studies share. A grid of runs, their table, a verdict, a report."""

import dataclasses
import functools
import pathlib
import typing

from keras_svag._checks import positive_int
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.recording import Recording
from keras_svag.engine.shard import parse_shard
from keras_svag.engine.spec import SVAG, RunSpec
from keras_svag.recipe import Recipe, TrainingFacts
from keras_svag.schedules import increasing_fractions
from keras_svag.studies.base import checks
from keras_svag.studies.base.result import Result, write_results
from keras_svag.studies.base.session import Session
from keras_svag.studies.base.table import summarize_runs
from keras_svag.studies.base.workdir import claim
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.validity import validate_closeness

# Studies by name: a class is found by being defined.
STUDIES = {}
# Fields of every study by their names in `config.json`.
COMMON = {
    "seed": "seed",
    "num_seeds": "num_seeds",
    "max_num_seeds": "max_num_seeds",
    "closeness": "closeness",
    "equilibrium": "window",
    "num_records": "num_records",
    "num_checkpoints": "num_checkpoints",
    "checkpoint_steps": "checkpoint_steps",
    "evaluation_size": "evaluation_size",
    "vectorize_seeds": "vectorize_seeds",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Base class of studies: a subclass says which runs, and what they say.

    A subclass sets `name`, by which trainers and `load` find it, adds fields, and overrides
    `specs`, `evaluate`, `figures`, `format_table`, `recommend` and `titles`; `stages`, `on_stage`
    and `more_seeds` where it does not do all runs at once. Its report is made from the template
    `report.html.jinja` beside its module, or from a plain one if there is none.

    Attributes:
        recipe: the `Recipe`, or only its `TrainingFacts` where nothing is trained.
        seed: int >= 0, of all seeds. Defaults to `0`.
        num_seeds: seeds per cell of the grid. Defaults to `4`.
        max_num_seeds: number of seeds up to which a study may add some while its verdict is
            inconclusive. Defaults to `None`: four times `num_seeds`.
        closeness: C, the factor within which quantities agree, a float > 1. Defaults to `sqrt(2)`.
        window: two fractions of the run, over which N, G and R are averaged. Defaults to
            `(0.4, 0.8)`.
        num_records: rows recorded of each run. Defaults to `60`.
        num_checkpoints: checkpoints of each run. Defaults to `10`.
        checkpoint_steps: effective steps between checkpoints in place of `num_checkpoints`.
            Defaults to `None`.
        evaluation_size: first examples of each split to evaluate on; 0 means all. Defaults to `0`.
        vectorize_seeds: whether seeds are trained side by side in one program (JAX): True, False,
            or `None` for accelerators only. Defaults to `None`.
        config: the config that the study was made from, which `config.json` then holds.
    """

    recipe: typing.Any = dataclasses.field(kw_only=False)
    seed: int = 0
    num_seeds: int = 4
    max_num_seeds: int | None = None
    closeness: float = DEFAULT_CLOSENESS
    window: tuple = (0.4, 0.8)
    num_records: int = 60
    num_checkpoints: int = 10
    checkpoint_steps: int | None = None
    evaluation_size: int = 0
    vectorize_seeds: bool | None = None
    config: dict | None = dataclasses.field(default=None, repr=False)

    name = None
    title = None
    own_fields = ()
    adds_seeds = False  # up to max_num_seeds, by itself
    is_judged = True  # has a verdict

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.name is not None:
            STUDIES[cls.name] = cls

    def __post_init__(self):
        if not isinstance(self.recipe, (Recipe, TrainingFacts)):
            raise ValueError(
                "`recipe` must be a keras_svag.Recipe. "
                f"Received: recipe={self.recipe!r} of {type(self.recipe).__name__}"
            )
        self._set("num_seeds", positive_int("num_seeds", self.num_seeds))
        most = 4 * self.num_seeds if self.max_num_seeds is None else self.max_num_seeds
        if not self.adds_seeds:
            most = max(most, self.num_seeds)
        self._set("max_num_seeds", positive_int("max_num_seeds", most, self.num_seeds))
        self._set("closeness", validate_closeness(self.closeness))
        window = tuple(increasing_fractions("window", self.window))
        if len(window) != 2:
            raise ValueError(
                "`window` must be two fractions of the run, its start and its end. "
                f"Received: window={self.window}"
            )
        self._set("window", window)
        self.recording  # noqa: B018 (checks its fields)
        self.validate()

    def _set(self, name, value):
        object.__setattr__(self, name, value)

    def validate(self):
        """Checks the fields of the subclass and fills in defaults that depend on the recipe."""

    @property
    def facts(self):
        """The `TrainingFacts` of the recipe."""
        return self.recipe.facts

    @property
    def recording(self):
        """The `Recording` of the runs."""
        names = [field.name for field in dataclasses.fields(Recording)]
        return Recording(**{name: getattr(self, name) for name in names})

    @property
    def mutable_fields(self):
        """Top-level fields of `config.json` that may change on a workdir, beside those of all."""
        return (self.name,)

    # What a subclass says.

    def specs(self, num_seeds):
        """All runs of the study, a list of `RunSpec`; `num_seeds` is a dict by batch size."""
        raise NotImplementedError

    def evaluate(self, specs, results, workdir):
        """What the runs say.

        Args:
            specs: list of `RunSpec`.
            results: dict from run name to the dict of `result.json`.
            workdir: folder of the study.

        Returns:
            A tuple: the dict of `verdict.json` and the rows of `results.csv`.
        """
        raise NotImplementedError

    def can_judge(self, specs):
        """Whether there is something to say of these finished runs."""
        return bool(specs)

    def correction(self, details):
        """How intervals allow for several looks or comparisons, in words."""
        confidence = 100 * details.get("confidence", 0.95)
        return f"Intervals of {confidence:.3g} %, each comparison by itself."

    def verdict_of(self, details):
        """One word for the whole study."""
        return details["verdict"]

    def reason_of(self, details):
        """Sentences on what the verdict rests on: the end of the printed table."""
        return self.format_table(details).rpartition("\n\n")[2]

    def figures(self, table, details, workdir):
        """The figures of the report, a list of `report.Drawing`."""
        raise NotImplementedError

    def format_table(self, details):
        """The table that trainers print, a string of several lines."""
        raise NotImplementedError

    def recommend(self, details):
        """Sentences on what to do next, from `verdict.json` as JSON holds it."""
        raise NotImplementedError

    def titles(self, table):
        """Headings of the quantities in the report's table, by their names in `settings`."""
        raise NotImplementedError

    def check(self):
        """Raises what a run would raise later, while nothing is written yet."""
        checks.check_runs(self.recipe, self.specs(self.first_seeds()), self.recording, self.window)

    def first_seeds(self):
        """Number of seeds to begin with, a dict by batch size that `specs` takes."""
        return {}

    def stages(self, specs):
        """The runs in lists that are executed one after the other."""
        return [specs]

    def on_stage(self, index, specs, results, workdir):
        """Called when a stage is finished, with its runs and all results so far."""

    def more_seeds(self, details, num_seeds):
        """Larger numbers of seeds by batch size, where they can settle the verdict."""
        return {}

    # What all of them do.

    def make_spec(self, batch_size, ell=1.0, seed=0, method=SVAG):
        """The run of a cell: as long as `epochs`, with the scaled learning rate."""
        facts = self.facts
        rate, total = facts.learning_rate_at(batch_size), facts.steps_at(batch_size)
        return RunSpec(batch_size, rate, ell, seed, total, method)

    def summarize(self, specs, results, workdir):
        """The rows of `results.csv`."""
        return summarize_runs(specs, results, self.window, self.facts, workdir)

    def describe(self):
        """What `config.json` holds."""
        if self.config is not None:
            return {"study": self.name, **self.config}
        common = {name: getattr(self, field) for name, field in COMMON.items()}
        own = {name: getattr(self, name) for name in self.own_fields}
        return {"study": self.name, **common, self.name: own, "recipe": self.recipe.describe()}

    def describe_environment(self):
        """What `environment.json` holds of the study, beside the process."""
        recipe = self.recipe
        model = {} if self.config is not None else {"model": recipe.describe_network()}
        data = {"name": recipe.data_name, "sha256": recipe.fingerprint()}
        return {"seed": self.seed, "data": data, **model, "facts": dataclasses.asdict(self.facts)}

    @classmethod
    def from_json(cls, config, facts):
        """The study that `config.json` describes, without its recipe: it cannot be run."""
        common = {field: config[name] for name, field in COMMON.items() if name in config}
        own = {name: config[cls.name][name] for name in cls.own_fields}
        return cls(facts, **{**common, **own}, config=config)

    def run(self, workdir, num_workers=0, shard=None, show_progress=True, command=None):
        """Runs the study, or goes on with it, and writes everything it leaves behind.

        The same call on the same folder goes on where it was interrupted: finished runs are kept,
        others resume from their checkpoints with the records they would have had.

        Args:
            workdir: folder for all files.
            num_workers: number of processes, each with runs of its own; 1 means this process, 0 one
                for each core of a machine without an accelerator. Defaults to `0`.
            shard: `"i/n"` to do the i-th of n parts of the runs only, or `None` for all of them.
                Defaults to `None`.
            show_progress: whether to show a progress bar. Defaults to `True`.
            command: list of strings, the command to show in the report. Defaults to that of this
                process.

        Returns:
            A `Result`; `None` as long as runs of other shards are missing.

        Raises:
            ValueError: if the recipe or a field is wrong, or `workdir` belongs to another study.
            PreemptedError: after checkpoints, if the process was asked to end.
            WriteError: if a file cannot be written.
        """
        shard = parse_shard(shard)
        num_workers = positive_int("num_workers", num_workers, minimum=0)
        if not isinstance(self.recipe, Recipe):
            raise ValueError(
                "`recipe` must be there to train: this study was loaded from its files, which do "
                "not hold the model. Build it from its recipe, and run it on the same workdir."
            )
        self.check()
        workdir = pathlib.Path(workdir)
        # Raises, if there is something wrong with its arguments, before anything is written.
        pool = RunPool(self.recipe, self.recording, workdir, num_workers, self.vectorize_seeds)
        setting = claim(workdir, self, command)
        with pool:
            session = Session(pool, self.facts.num_train, workdir, shard, show_progress)
            outcome = self._execute(session, workdir)
            if outcome is None:
                return None
            details, table = outcome
            result = Result(self, workdir, details, table, setting)
            write_results(result, pool.call_all)
        return result

    def _execute(self, session, workdir):
        num_seeds = self.first_seeds()
        while True:
            specs = self.specs(num_seeds)
            stages = self.stages(specs)
            on_stage = functools.partial(self._on_stage, stages, workdir)
            results = session.execute(stages, on_stage)
            if results is None:
                return None
            details, table = self.evaluate(specs, results, workdir)
            more = self.more_seeds(details, num_seeds)
            if not more:
                return details, table
            num_seeds = num_seeds | more

    def _on_stage(self, stages, workdir, index, results):
        self.on_stage(index, stages[index], results, workdir)
