"""Tables and paragraphs, as trainers print them: plain text, or as a terminal's width allows."""

import sys

from keras_svag._terminal import color_outcomes, make_console

GAP = "  "  # between columns
NUM_KEYS = 2  # columns at the left that say what a row is about


class Sheet(str):
    """Plain text that remembers its parts, so that `show` can fit them to a terminal.

    A part is a paragraph or a table: a list of rows, tuples of cells, the first with the headings.
    Columns are aligned on the right or, with `left`, on the left.
    """

    parts: tuple
    left: bool

    def __new__(cls, *parts, left=False):
        """Joins the parts by empty lines."""
        texts = ["\n".join(align(part, left)) if _is_table(part) else part for part in parts]
        sheet = super().__new__(cls, "\n\n".join(texts))
        sheet.parts, sheet.left = parts, left
        return sheet

    @classmethod
    def below(cls, paragraph, text):
        """Returns plain text or a sheet below a paragraph."""
        parts, left = getattr(text, "parts", (text,)), getattr(text, "left", False)
        return cls(paragraph, *parts, left=left)


def _is_table(part):
    return not isinstance(part, str)


def align(rows, left=False):
    """Returns a line per row, a tuple of cells, with columns aligned on the right or left."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [
        GAP.join(
            cell.ljust(width) if left else cell.rjust(width) for cell, width in zip(row, widths)
        )
        for row in rows
    ]


def format_interval(value):
    """Formats an `Interval` as JSON holds it, or `None`, as the mean and half its length."""
    if value is None or value["mean"] is None:
        return "-"
    low, high = value["ci_low"], value["ci_high"]
    if low is None or high is None:
        return f"{value['mean']:.4g} (no interval)"
    return f"{value['mean']:.4g} +- {(high - low) / 2:.2g}"


def show(text):
    """Prints text to stdout; on a terminal tables fit its width, and outcomes have colors."""
    console = make_console(sys.stdout)
    if console is None:
        print(text)
        return
    for i, part in enumerate(getattr(text, "parts", (text,))):
        blocks = _split(_shorten(part, console), console.width) if _is_table(part) else [part]
        for j, block in enumerate(blocks):
            if i or j:
                console.print()
            is_text = isinstance(block, str)
            console.print(
                color_outcomes(block) if is_text else _make_table(block, text.left, console.width)
            )


def _shorten(rows, console):
    """Writes intervals with the sign, from which a narrow column can break the line."""
    if not console.encoding.startswith("utf"):
        return rows

    def shorten(cell):
        sign = " \N{PLUS-MINUS SIGN}"
        return cell.replace(" +- ", sign).replace(" (no interval)", f"{sign}?")

    return [tuple(map(shorten, row)) for row in rows]


def _split(rows, width):
    """Splits a table that would be too wide even with a word a line; all begin with the keys."""
    narrowest = [_word_width(column) + len(GAP) for column in zip(*rows)]
    blocks: list[list[int]] = [[]]
    used = sum(narrowest[:NUM_KEYS])
    for i in range(NUM_KEYS, len(narrowest)):
        if blocks[-1] and used + narrowest[i] > width + len(GAP):
            blocks.append([])
            used = sum(narrowest[:NUM_KEYS])
        blocks[-1].append(i)
        used += narrowest[i]
    keys = list(range(min(NUM_KEYS, len(narrowest))))
    return [[tuple(row[i] for i in [*keys, *block]) for row in rows] for block in blocks]


def _make_table(rows, left, width):
    """Returns a table in which the fewest columns are narrowed to a word a line."""
    from rich.table import Table

    table = Table(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False, header_style="bold")
    for name, column_width in zip(rows[0], _fit(list(zip(*rows)), width)):
        table.add_column(name, justify="left" if left else "right", width=column_width)
    for row in rows[1:]:
        table.add_row(*map(color_outcomes, row))
    return table


def _fit(columns, width):
    widths = [max(map(len, column)) for column in columns]
    least = [_word_width(column) for column in columns]
    for i in sorted(range(len(columns)), key=lambda i: least[i] - widths[i]):
        if sum(widths) + len(GAP) * (len(widths) - 1) > width:
            widths[i] = least[i]
    return widths


def _word_width(cells):
    return max((len(word) for cell in cells for word in cell.split()), default=0)
