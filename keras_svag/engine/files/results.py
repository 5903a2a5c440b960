"""Results of runs: `result.json`, which proves itself and the records beside it.

A result is valid or damaged, never in between: it has a SHA-256 of its own content and one of
`metrics.jsonl`, and names its run and its study.
"""

import dataclasses

from keras_svag.engine.files import records
from keras_svag.engine.spec import BRANCH, BranchSpec, RunSpec

# LOCKED is not in `result.json`: another process is executing the run.
DONE, FAILED, LOCKED = "done", "failed", "locked"
SPEC_FIELDS = tuple(field.name for field in dataclasses.fields(RunSpec))
FIELDS = (*SPEC_FIELDS, "name", "status", "seconds", "identity", "versions", "records_sha256")


class DamagedRunError(records.DamagedError):
    """Raised when the result or the records of a finished run cannot be used."""

    def __init__(self, path, problem):
        self.path, self.problem = path, problem
        super().__init__(
            f"`{path}` is damaged: {problem}. Repeat the command of the study: the run is restored "
            "from its checkpoint, or trained again."
        )

    def __reduce__(self):  # from a worker process
        return type(self), (self.path, self.problem)


def write(folder, spec, content, rows):
    """Writes `result.json` for the records `rows`; returns its content."""
    # Not of the file: without locks, another process may just have written fewer rows.
    digest = records.sha256(records.to_jsonl(rows).encode())
    result = {**dataclasses.asdict(spec), "name": spec.name, **content, "records_sha256": digest}
    records.write_sealed(folder.result, result)
    return result


def read(folder, spec=None, identity=None):
    """Returns a valid result, `None` if there is none; of any run and study if not given."""
    return _read(folder, spec, identity)[0]


def read_rows(folder):
    """Returns the records of a finished run."""
    result, content = _read(folder)
    if result is None:
        raise DamagedRunError(folder.result, "it is missing")
    return records.parse_jsonl(folder.metrics, content.decode("utf-8"))


def spec_of(result):
    """Returns the `RunSpec` of a result."""
    kind = BranchSpec if result["method"] == BRANCH else RunSpec
    return kind(**{field.name: result[field.name] for field in dataclasses.fields(kind)})


def _read(folder, spec=None, identity=None):
    """Returns a valid result and the bytes of its records."""
    try:
        result = records.read_sealed(folder.result)
        if result is None:
            return None, b""
        problem = _find_problem(result, folder, spec, identity)
        content = records.read_bytes(folder.metrics) or b""
    except records.DamagedError as error:
        raise DamagedRunError(error.path, error.problem) from error
    if problem:
        raise DamagedRunError(folder.result, problem)
    if records.sha256(content) != result["records_sha256"]:
        raise DamagedRunError(folder.metrics, "its SHA-256 is not the one in `result.json`")
    return result, content


def _find_problem(result, folder, spec, identity):
    """Returns why a sealed result is not the one of a run, or `None`."""
    if missing := [name for name in FIELDS if name not in result]:
        return f"it has no {', '.join(missing)}"
    if result["status"] not in (DONE, FAILED):
        return f"its status is {result['status']!r}"
    try:
        found = spec_of(result)
        name = found.name
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        return f"it names no run ({error})"
    if not name == result["name"] == folder.path.name or spec not in (None, found):
        return f"it is of another run, {found}"
    if identity not in (None, result["identity"]):
        return f"it is of another study ({result['identity']!r} instead of {identity!r})"
    return None
