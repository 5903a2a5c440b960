"""Hook of mkdocs: examples of docstrings, which begin with `>>>`, become blocks of code."""

from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

BEFORE_FENCES = 60  # where Markdown's own preprocessors leave room


class DoctestFences(Preprocessor):
    """Fences each doctest, from its first `>>>` to the next blank line."""

    def run(self, lines):
        """Returns the lines with fences."""
        fenced, is_inside = [], False
        for line in [*lines, ""]:
            if not is_inside and line.startswith(">>> "):
                fenced, is_inside = [*fenced, "", "```pycon"], True
            elif is_inside and not line.strip():
                fenced, is_inside = [*fenced, "```"], False
            fenced.append(line)
        return fenced


class Doctests(Extension):
    """Markdown extension of `DoctestFences`."""

    def extendMarkdown(self, md):  # noqa: N802
        """Registers the preprocessor."""
        md.preprocessors.register(DoctestFences(md), "doctests", BEFORE_FENCES)


def on_config(config):
    """Adds the extension to those of mkdocs.yml, and so to those of mkdocstrings."""
    config.markdown_extensions.append(Doctests())
