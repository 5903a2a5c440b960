"""The terminal: consoles of rich, imported only where there is one to write to."""

import contextlib
import sys

# Words of outcomes by color.
STYLES = {
    "green": ("valid", "holds", "equivalent"),
    "red": ("invalid", "fails", "different", "failed"),
    "yellow": ("inconclusive", "undecided"),
}


class SafeStream:
    """A standard stream, which may be closed or lose its reader without ending the study."""

    def __init__(self, stream):
        self._stream = stream  # `None` if closed from the start

    def write(self, text):
        """Writes text, if somebody reads it."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(text)

    def flush(self):
        """Flushes what was written."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self):
        """Returns True if the stream is a terminal."""
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return bool(self._stream.isatty())
        return False

    def __getattr__(self, name):
        return getattr(self._stream, name)


def make_console(stream=None):
    """Returns a `rich.console.Console` for a stream, by default stderr; `None` if no terminal."""
    stream = SafeStream(sys.stderr if stream is None else stream)
    if not stream.isatty():
        return None
    from rich.console import Console

    # What rich would find in our text, as numbers, is not worth a color.
    console = Console(file=stream, highlight=False)
    return None if console.is_dumb_terminal else console


def color_outcomes(text):
    """Returns a `rich.text.Text` whose outcomes have colors, as in `... (4 seeds): valid.`."""
    from rich.text import Text

    colored = Text(text)
    for style, words in STYLES.items():
        colored.highlight_regex(rf"(?<![\w-])({'|'.join(words)})\b", f"bold {style}")
    return colored
