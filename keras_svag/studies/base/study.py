"""`Study`, the base class: a grid of runs, their table, a verdict and a report."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from keras_svag._checks import positive_int
from keras_svag.engine.files import storage
from keras_svag.engine.processes.executor import ExecutorPool
from keras_svag.engine.processes.pool import RunPool
from keras_svag.engine.recording import Recording
from keras_svag.engine.shard import parse_shard
from keras_svag.engine.spec import SVAG, RunSpec
from keras_svag.recipe import Recipe, TrainingFacts
from keras_svag.report.drawing import Drawing
from keras_svag.schedules import increasing_fractions
from keras_svag.studies.base import checks
from keras_svag.studies.base.result import Result, write_results
from keras_svag.studies.base.session import Session, claim_workdir
from keras_svag.studies.base.table import summarize_runs
from keras_svag.studies.base.workdir import describe_environment
from keras_svag.theory import DEFAULT_CLOSENESS
from keras_svag.theory.verdicts.decision import validate_closeness

# Studies by name; a class registers itself when it is defined.
STUDIES: dict[str, type["Study"]] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Base class of the studies.

    A subclass sets `name`, by which trainers and `load` find it, adds its own fields, and overrides
    `specs`, `evaluate`, `figures`, `format_table`, `recommend` and `titles`. It overrides `stages`
    and `on_stage` if its runs depend on each other, and `first_plan`, `largest_plan`, `extend_plan`
    and `describe_extension` if it adds runs while a verdict is inconclusive. The report is rendered
    from the template `report.html.jinja` in the folder of its module, or from a default one.

    Args:
        recipe: A `keras_svag.Recipe`. (A study that is loaded from its files has `TrainingFacts`.)
        seed: Seed that all other seeds are derived from, an int >= 0. Defaults to `0`.
        num_seeds: Number of seeds per cell of the grid. Defaults to `4`.
        max_num_seeds: Number of seeds up to which a study may add seeds while its verdict is
            inconclusive. Defaults to `None`, four times `num_seeds`.
        closeness: Factor C within which two quantities agree, a float > 1. Defaults to `sqrt(2)`.
        window: Start and end of the window over which N, G and R are averaged, as fractions of the
            run. Defaults to `(0.4, 0.8)`.
        num_records: Number of rows to record per run. Defaults to `60`.
        num_checkpoints: Number of checkpoints per run. Defaults to `10`.
        checkpoint_steps: Effective steps between checkpoints, instead of `num_checkpoints`.
            Defaults to `None`.
        evaluation_size: Number of examples of each split to evaluate on; 0 means all. Defaults to
            `0`.
        vectorize_seeds: Whether to train all seeds of a cell in one vectorized program (JAX only).
            Defaults to `None`, on accelerators only.
        config: What `config.json` will hold. Defaults to `None`, the fields of the study.

    Example:

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class FinalLoss(Study):
    ...     def specs(self, plan):
    ...         size = self.facts.batch_size
    ...         return [self.make_spec(size, seed=seed) for seed in range(self.num_seeds)]
    >>> study = FinalLoss(recipe, num_seeds=2)
    >>> [spec.name for spec in study.specs({})]
    ['b8_ell1_seed0', 'b8_ell1_seed1']
    """

    recipe: Recipe | TrainingFacts = dataclasses.field(kw_only=False)
    seed: int = 0
    num_seeds: int = 4
    max_num_seeds: int | None = None
    closeness: float = DEFAULT_CLOSENESS
    window: tuple[float, float] = (0.4, 0.8)
    num_records: int = 60
    num_checkpoints: int = 10
    checkpoint_steps: int | None = None
    evaluation_size: int = 0
    vectorize_seeds: bool | None = None
    config: dict | None = dataclasses.field(default=None, repr=False)

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    own_fields: ClassVar[tuple[str, ...]] = ()
    adds_seeds: ClassVar[bool] = False  # up to max_num_seeds, on its own
    is_judged: ClassVar[bool] = True  # has a verdict
    describe_outlook: ClassVar[Any] = None  # a method of the details so far, if judging is quick
    stage_names: ClassVar[tuple[str, ...]] = ()  # of several stages, on the terminal

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if cls.name:
            STUDIES[cls.name] = cls

    def __post_init__(self):
        if not isinstance(self.recipe, (Recipe, TrainingFacts)):
            raise ValueError(
                "`recipe` must be a keras_svag.Recipe. "
                f"Received: recipe={self.recipe!r} of {type(self.recipe).__name__}"
            )
        num_seeds = positive_int("num_seeds", self.num_seeds)
        limit = 4 * num_seeds if self.max_num_seeds is None else self.max_num_seeds
        limit = positive_int("max_num_seeds", limit, num_seeds if self.adds_seeds else 1)
        window = tuple(increasing_fractions("window", self.window))
        if len(window) != 2:
            raise ValueError(
                "`window` must be two fractions of the run, its start and its end. "
                f"Received: window={self.window}"
            )
        self._set("num_seeds", num_seeds)
        self._set("max_num_seeds", max(limit, num_seeds))
        self._set("closeness", validate_closeness(self.closeness))
        self._set("window", window)
        self.recording  # noqa: B018 (validates its fields)
        self.validate()

    def _set(self, name, value):
        object.__setattr__(self, name, value)  # the dataclass is frozen

    @property
    def facts(self) -> TrainingFacts:
        """The `TrainingFacts` of the recipe."""
        return self.recipe.facts

    @property
    def recording(self) -> Recording:
        """The `Recording` of the runs."""
        names = {field.name for field in dataclasses.fields(Recording)} - {"identity"}
        return Recording(**{name: getattr(self, name) for name in names})

    def validate(self) -> None:
        """Validates the fields of the subclass and sets defaults that depend on the recipe."""

    @property
    def mutable_fields(self) -> tuple[str, ...]:
        """Entries of `config.json` that may change on a workdir, besides the common ones."""
        return (self.name,)

    def first_plan(self) -> dict[int, Any]:
        """The plan to begin with, by batch size; for studies that add runs."""
        return {}

    def largest_plan(self) -> dict[int, Any]:
        """The plan with everything that the study may add."""
        return self.first_plan()

    def extend_plan(self, details: dict, plan: dict[int, Any]) -> dict[int, Any]:
        """The new plan of each batch size where more runs can settle the verdict."""
        return {}

    def describe_extension(self, batch_size: int, before: Any, after: Any, details: dict) -> str:
        """A sentence on what is added at a batch size, and why."""
        raise NotImplementedError

    def specs(self, plan: dict[int, Any]) -> list[RunSpec]:
        """All runs of the study; a plan comes from `first_plan` and `extend_plan`."""
        raise NotImplementedError

    def stages(self, specs: list[RunSpec]) -> list[list[RunSpec]]:
        """Splits the runs into stages that are executed one after the other."""
        return [specs]

    def on_stage(self, index: int, specs: list, results: dict, workdir: pathlib.Path) -> None:
        """Called at the end of a stage with its runs and all results so far."""

    def can_judge(self, specs: list[RunSpec]) -> bool:
        """Returns True if these finished runs are enough for a (provisional) verdict."""
        return bool(specs)

    def evaluate(self, specs: list, results: dict, workdir: pathlib.Path) -> tuple[dict, list]:
        """Judges runs by their `result.json`: content of `verdict.json`, rows of `results.csv`."""
        raise NotImplementedError

    def correction(self, details: dict) -> str:
        """Describes how intervals account for repeated looks and multiple comparisons."""
        confidence = 100 * details.get("confidence", 0.95)
        return f"Intervals of {confidence:.3g} %, each comparison by itself."

    def verdict_of(self, details: dict) -> str:
        """The verdict of the whole study, one word."""
        return details["verdict"]

    def reason_of(self, details: dict) -> str:
        """The reason for the verdict: the last paragraph of the printed table."""
        return self.format_table(details).rpartition("\n\n")[2]

    def figures(self, table: list[dict], details: dict, workdir: pathlib.Path) -> list[Drawing]:
        """The figures of the report."""
        raise NotImplementedError

    def format_table(self, details: dict) -> str:
        """The table that trainers print."""
        raise NotImplementedError

    def recommend(self, details: dict) -> list[str]:
        """Recommends next steps, one sentence or two each, from the content of `verdict.json`."""
        raise NotImplementedError

    def titles(self, table: list[dict]) -> dict[str, str]:
        """Column headings of the report's table, by the names in `settings`."""
        raise NotImplementedError

    def make_spec(self, batch_size: int, ell=1.0, seed=0, method=SVAG) -> RunSpec:
        """The run of a cell: over all epochs, with the learning rate of its batch size."""
        rate, total = self.facts.learning_rate_at(batch_size), self.facts.steps_at(batch_size)
        return RunSpec(batch_size, rate, ell, seed, total, method)

    def check(self) -> None:
        """Fails early: validates all runs before anything is written."""
        if not isinstance(self.recipe, Recipe):
            raise ValueError(
                "`recipe` must be a keras_svag.Recipe to train; this study was loaded from files, "
                "which hold no model. Create it from its recipe, and run it on the same workdir."
            )
        checks.check_runs(self.recipe, self.specs(self.first_plan()), self.recording, self.window)

    def summarize(self, specs: list, results: dict, workdir: pathlib.Path) -> list[dict]:
        """The rows of `results.csv`."""
        return summarize_runs(specs, results, self.window, self.facts, workdir)

    def describe(self) -> dict[str, Any]:
        """The content of `config.json`."""
        if self.config is not None:
            return {"study": self.name, **self.config}
        common = {name: getattr(self, field) for name, field in COMMON_FIELDS.items()}
        own = {self.name: {name: getattr(self, name) for name in self.own_fields}}
        return {"study": self.name, **common, **own, "recipe": cast(Recipe, self.recipe).describe()}

    def describe_environment(self) -> dict[str, Any]:
        """The part of `environment.json` that is about data and network."""
        recipe = cast(Recipe, self.recipe)
        model = {} if self.config is not None else {"model": recipe.describe_network()}
        data = {"name": recipe.data_name, "sha256": recipe.fingerprint()}
        return {"seed": self.seed, "data": data, **model, "facts": dataclasses.asdict(self.facts)}

    @classmethod
    def from_json(cls, config: dict, facts: TrainingFacts) -> "Study":
        """Restores a study, without its recipe, from the content of `config.json`."""
        common = {field: config[name] for name, field in COMMON_FIELDS.items() if name in config}
        own = {name: value for name, value in config[cls.name].items() if name in cls.own_fields}
        return cls(facts, **{**common, **own}, config=config)

    def run(
        self,
        workdir: str | pathlib.Path,
        num_workers: int = 0,
        shard: str | None = None,
        show_progress: bool = True,
        command: Sequence[str] | None = None,
        executor: Any = None,
    ) -> Result | None:
        """Runs the study and writes its verdict, table, figures and report.

        The same call on the same folder resumes, with the same records as if uninterrupted.

        Args:
            workdir: Folder for all files, local or in an object store (`gs://`, `s3://`).
            num_workers: Number of processes; 1 means this process, 0 one process per core on a
                machine without an accelerator. Defaults to `0`.
            shard: `"i/n"` to train only the i-th of n parts of the runs. Defaults to `None`, all.
            show_progress: Whether to show a progress bar. Defaults to `True`.
            command: Command line in the report, as strings. Defaults to that of this process.
            executor: A `concurrent.futures.Executor` to execute the runs. Defaults to `None`.

        Returns:
            A `Result`, or `None` while runs of other shards are missing.

        Raises:
            ValueError: If the recipe or a field is invalid, or `workdir` belongs to another study.
            KeyboardInterrupt, PreemptedError: After checkpoints, on Ctrl-C or SIGTERM and SIGHUP.
            OSError: If a file cannot be written, or an object store not be read.
            BrokenExecutor: If the executor takes no more calls.
        """
        shard, folder = parse_shard(shard), storage.to_path(workdir)
        num_workers = positive_int("num_workers", num_workers, minimum=0)
        self.check()
        environment = describe_environment(self, command)
        recording = dataclasses.replace(self.recording, identity=environment["identity"])
        what = self.recipe, recording, folder, num_workers, self.vectorize_seeds
        # Pickles the recipe, which may fail, before anything is written.
        with RunPool(*what) if executor is None else ExecutorPool(executor, *what) as pool:
            is_writable = claim_workdir(folder, self, environment)
            session = Session(pool, self.facts.num_train, folder, shard, show_progress, is_writable)
            if (result := session.run(self, environment)) is not None and is_writable:
                write_results(result, pool.call_all)
        return result


# Fields that all studies have, by their names in `config.json`.
COMMON_FIELDS = {
    {"window": "equilibrium"}.get(field.name, field.name): field.name
    for field in dataclasses.fields(Study)
    if field.name not in ("recipe", "config")
}
