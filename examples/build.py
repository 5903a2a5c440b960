"""Executes the notebooks of this folder and stores their outputs.

    python -m examples.build              # all, in some minutes
    python -m examples.build own_recipe

`how_large_a_batch.ipynb` is first made from the script of that name: docstring blocks become
Markdown, what lies between them code. Outputs are those of the TensorFlow backend.
"""

import ast
import base64
import inspect
import io
import os
import pathlib
import re
import sys
import tempfile

import nbclient
import nbformat
from nbformat import v4
from PIL import Image

FOLDER = pathlib.Path(__file__).resolve().parent
NOTEBOOKS = ("check_sde", "how_large_a_batch", "own_recipe")
TUTORIAL = "how_large_a_batch"
COLAB = "https://colab.research.google.com/github/keras-svag/keras-svag/blob/main/examples/"
TAG = "install"  # of the cell that installs the package, which is not executed here
INSTALL = """\
# Colab has a backend; elsewhere add one, as in "keras-svag[tensorflow-cpu,tfds]".
%pip install -q "keras-svag[tfds]"
!python -m keras_svag.datasets.prepare fashion_mnist"""
NUM_COLORS = 64  # of a figure; a quarter of the bytes, no difference to the eye
# What TensorFlow logs while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says.
NATIVE_LOG = re.compile(r"[IW]\d{4} |\d{4}-\d\d-\d\d |WARNING: All log messages before absl|\s*$")


def split(source):
    """Yields the cells of a script, as pairs of kind and text."""
    lines, start = source.splitlines(), 0
    for node in ast.parse(source).body:
        match node:
            case ast.Expr(ast.Constant(str(text))):
                yield "code", "\n".join(lines[start : node.lineno - 1]).strip()
                yield "markdown", inspect.cleandoc(text)
                start = node.end_lineno
    yield "code", "\n".join(lines[start:]).strip()


def convert(name):
    """Returns the notebook of a script, without outputs."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    [(_, header), *cells] = [(kind, text) for kind, text in split(source) if text]
    title, *fields = re.findall(r"^([^:\n]+): (.+)$", header, re.MULTILINE)
    lines = "<br>\n".join(f"**{key}:** {value}" for key, value in fields)
    top = f"# {title[1]}\n\n[Open in Colab]({COLAB}{name}.ipynb)\n\n{lines}"
    cells = [("markdown", top), ("code", INSTALL), *cells]
    new = {"markdown": v4.new_markdown_cell, "code": v4.new_code_cell}
    notebook = v4.new_notebook(
        cells=[new[kind](text, id=f"cell{i}") for i, (kind, text) in enumerate(cells)],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
        },
    )
    notebook.cells[1].metadata.tags = [TAG]
    return notebook


def read(name):
    """Returns a notebook as it is to be executed."""
    if name == TUTORIAL:
        return convert(name)
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def execute(notebook, folder):
    """Executes a notebook in a folder, with a new kernel, and cleans its outputs."""
    client = nbclient.NotebookClient(
        notebook,
        timeout=1200,
        record_timing=False,
        coalesce_streams=True,
        skip_cells_with_tag=TAG,
        resources={"metadata": {"path": folder}},
    )
    paths = [str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))})
    notebook.metadata["language_info"] = {"name": "python"}  # no version of Python
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [o for o in map(clean, cell.outputs) if o is not None]


def clean(output):
    """Returns an output as it is stored; raises if it has a warning."""
    if output.get("name") == "stderr":
        warnings = [line for line in output.text.splitlines() if not NATIVE_LOG.match(line)]
        if warnings:
            raise RuntimeError("A notebook must run without warnings:\n" + "\n".join(warnings))
        return None
    data = output.get("data", {})
    if "image/png" in data:
        data["image/png"] = reduce_colors(data["image/png"])
    if "text/html" in data:
        png = r"(?<=data:image/png;base64,)[^\"]+"
        data["text/html"] = re.sub(png, lambda found: reduce_colors(found[0]), data["text/html"])
    return output


def reduce_colors(png):
    """Returns a PNG file, in base64, with a palette."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    image.quantize(NUM_COLORS, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main(names):
    """Executes notebooks and writes them."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    for name in names or NOTEBOOKS:
        notebook = read(name)
        with tempfile.TemporaryDirectory() as folder:
            execute(notebook, folder)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"examples/{name}.ipynb")


if __name__ == "__main__":
    main(sys.argv[1:])
