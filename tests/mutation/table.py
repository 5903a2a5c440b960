"""The table of mutants by file, and with `--survivors` those that no test noticed.

    python -m tests.mutation.table mutants.jsonl

`tests/mutation/equivalent.json` lists mutants that do what the file does, each with its reason.
They are not counted. Of a sample the share has its 95 % interval, by Wilson.
"""

import argparse
import json
import math

from tests.mutation.mutations import Mutants
from tests.mutation.run import EQUIVALENT, NOT_RUN, PACKAGE, SURVIVED, read_results

HEAD = """\
| file | mutants | run | equivalent | noticed | survived | share |
|---|---|---|---|---|---|---|"""


def wilson(successes, count):
    """The 95 % interval of a share."""
    z = 1.959964
    middle = (successes + z**2 / 2) / (count + z**2)
    half = z / (count + z**2) * math.sqrt(successes * (1 - successes / count) + z**2 / 4)
    return middle - half, middle + half


def table_row(name, total, ran, equivalent, survived):
    """One line of the table."""
    count = ran - equivalent
    noticed = count - survived
    share = f"{100 * noticed / count:.1f} %" if count else "-"
    if count and ran < total:
        low, high = (100 * end for end in wilson(noticed, count))
        share += f" ({low:.0f} to {high:.0f} %)"
    cells = (name, f"{total:,}", f"{ran:,}", equivalent, f"{noticed:,}", survived, share)
    return f"| {' | '.join(map(str, cells))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", nargs="+")
    parser.add_argument("--survivors", action="store_true")
    options = parser.parse_args()
    # The last row of a mutant is the valid one, if the file still has it.
    rows = {(r["file"], r["key"]): r for path in options.results for r in read_results(path)}
    existing = {file: Mutants((PACKAGE / file).read_text("utf-8")).keys for file, _ in rows}
    rows = {(file, key): row for (file, key), row in rows.items() if key in existing[file]}
    listed = json.loads(EQUIVALENT.read_text("utf-8"))
    unnoticed = {key for key, row in rows.items() if row["outcome"] in (SURVIVED, NOT_RUN)}
    equivalent = {key for key in unnoticed if key[1] in listed.get(key[0], {})}
    survivors = sorted(unnoticed - equivalent)
    if options.survivors:
        for file, key in survivors:
            print(f"{file} | {key} | {rows[file, key]['outcome']}")
        return
    totals, lines = [0, 0, 0, 0], []
    for file in sorted({file for file, _ in rows}):
        of_file = [row for row in rows.values() if row["file"] == file]
        counts = [len(existing[file]), len(of_file)]
        counts += [sum(key[0] == file for key in keys) for keys in (equivalent, survivors)]
        totals = [total + count for total, count in zip(totals, counts)]
        lines.append(table_row(f"`{file}`", *counts))
    print("\n".join([HEAD, *lines, table_row("all", *totals)]))


if __name__ == "__main__":
    main()
