"""Looks at the data: how often a study has been judged, with ever more runs."""

import pathlib

from keras_svag.engine.files import records
from keras_svag.theory import spent_at

LOOKS = "looks.json"


def look_number(workdir: pathlib.Path, key: object, runs: dict[str, int]) -> int:
    """Number of this look at the runs of a cell; the same runs judged again are the same look."""
    seen = _read(workdir).get(str(key), [])
    return seen.index(runs) + 1 if runs in seen else len(seen) + 1


def record_looks(workdir: pathlib.Path, looks: dict[object, dict[str, int]]) -> None:
    """Adds looks, a dict from cell to its runs, to those of the folder."""
    found = _read(workdir)
    added = {}
    for key, runs in looks.items():
        seen = found.get(str(key), [])
        if runs not in seen:
            added[str(key)] = [*seen, runs]
    if added:
        records.write_sealed(workdir / LOOKS, found | added)


def _read(workdir: pathlib.Path) -> dict[str, list]:
    found = records.read_sealed(workdir / LOOKS)
    found = {} if found is None else found
    if not all(isinstance(seen, list) for seen in found.values()):
        raise records.damaged(workdir / LOOKS, "it is not as it was written")
    return found


def describe_look(look: int) -> str:
    """Describes the intervals of a look at the data."""
    confidence = 100 * (1 - 2 * spent_at(look))
    nth = "first" if look == 1 else f"{look}th" if look > 3 else ("second", "third")[look - 2]
    return (
        f"Intervals of {confidence:.4g} % at the {nth} look at the data; all looks together err "
        "with at most 5 %."
    )
