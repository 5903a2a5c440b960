"""Hooks of mkdocs: doctests in docstrings become blocks of code, a notebook becomes a page."""

import json
import pathlib
import re

from markdown.extensions import Extension
from markdown.preprocessors import Preprocessor

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"
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


def on_page_markdown(markdown, **kwargs):
    """Replaces `<!-- notebook: name -->` by the notebook of that name in examples/."""
    return re.sub(r"<!-- notebook: (\w+) -->", lambda found: notebook(found[1]), markdown)


def notebook(name):
    """Returns a notebook as Markdown: text, code, and what it printed and drew."""
    parts = []
    for cell in json.loads((EXAMPLES / f"{name}.ipynb").read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif "install" not in cell["metadata"].get("tags", []):
            parts += [f"```python\n{source}\n```", *map(output, cell["outputs"])]
    return "\n\n".join(parts)


def output(stored):
    """Returns the Markdown of one output, a figure or text."""
    data = stored.get("data", {})
    if "image/png" in data:
        return f"![Figure](data:image/png;base64,{''.join(data['image/png']).strip()})"
    text = "".join(stored.get("text", data.get("text/plain", ""))).rstrip()
    return f"```text\n{text}\n```" if text else ""
