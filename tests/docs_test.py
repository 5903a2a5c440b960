"""Every example in a docstring and every Python block of README and guide runs."""

import doctest
import functools
import importlib
import pathlib
import pkgutil
import re

import keras
import numpy as np
import pytest

import keras_svag

ROOT = pathlib.Path(__file__).resolve().parents[1]
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_svag.__path__, "keras_svag.")
    # Nor what imports the other backend, which need not be installed.
    if module.name.rpartition(".")[2] not in {"tensorflow", "jax"} - {keras.backend.backend()}
)


@functools.cache
def some_recipe():
    def build(seed):
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])

    x = np.random.default_rng(0).normal(size=(64, 4))
    sgd = keras.optimizers.SGD(0.1)
    return keras_svag.Recipe(build, (x, x[:, :1]), sgd, "mse", batch_size=8, epochs=2)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    # The names that examples take for granted; what a module imports, it has.
    known = {"keras": keras, "np": np, "keras_svag": keras_svag, "recipe": some_recipe()}
    scope = {**vars(module), **known}
    results = doctest.testmod(module, globs=scope, optionflags=doctest.ELLIPSIS)
    assert results.failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder()
    module = importlib.import_module("keras_svag.theory.coefficients")
    assert sum(len(test.examples) for test in finder.find(module)) >= 3


PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
)
NOT_RUN = "<!-- not run: "  # and the reason: on the line before a block that no test shall run


def code_blocks(text, language):
    """The fenced blocks of a language that are to be run."""
    block = rf"^([^\n]*)\n```{language}\n(.*?)^```$"
    found = re.findall(block, text, re.DOTALL | re.MULTILINE)
    return [code for before, code in found if not before.startswith(NOT_RUN)]


def test_code_blocks():
    block = "```python\nx = 1\n```\n"
    text = f"words\n\n{block}\n<!-- not run: an hour -->\n{block}```bash\nls\n```\n"
    assert code_blocks(text, "python") == ["x = 1\n"] and code_blocks(text, "bash") == ["ls\n"]


@pytest.mark.parametrize("file", PAGES)
def test_languages_of_blocks(file):
    fences = re.findall(r"^ *```(.*)$", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    assert len(fences) % 2 == 0
    # Python is run below, commands are looked at.
    assert set(fences[0::2]) <= {"python", "bash", "bibtex", "text"}
    assert set(fences[1::2]) <= {""}


@pytest.mark.parametrize(
    "file", [page for page in PAGES if "```python" in (ROOT / page).read_text("utf-8")]
)
def test_python_blocks(file, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the folders of their studies
    scope = {"__name__": "example"}  # the blocks of a file are one script
    for block in code_blocks((ROOT / file).read_text("utf-8"), "python"):
        exec(compile(block, file, "exec"), scope)


def commands(text):
    """Trainer, config file and its argument of each command in a text."""
    command = r"(?:python -m trainers\.|svag-)([\w-]+) --config=(configs/\w+\.py)(?::([\w=,.-]+))?"
    return [(name.replace("-", "_"), *rest) for name, *rest in re.findall(command, text)]


@pytest.mark.parametrize(
    "file", [page for page in PAGES if commands((ROOT / page).read_text("utf-8"))]
)
def test_commands_name_trainers_and_configs(file):
    for name, config, argument in commands((ROOT / file).read_text("utf-8")):
        assert (ROOT / "trainers" / f"{name}.py").is_file()
        module = importlib.import_module(f"configs.{pathlib.Path(config).stem}")
        fields = module.get_config(*filter(None, [argument]))
        assert name in fields or name == "weak_convergence"


def test_readme_has_its_commands():
    found = {name for name, _, _ in commands((ROOT / "README.md").read_text("utf-8"))}
    shared = {"estimate", "flags", "fork_server", "quiet", "startup", "usage"}
    others = {"__init__", "commands", *shared}
    assert found == {path.stem for path in (ROOT / "trainers").glob("*.py")} - others


@pytest.mark.parametrize("file", PAGES)
def test_named_files_are_there(file):
    text = (ROOT / file).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert ((ROOT / file).parent / target).exists(), target


def test_version_is_one():
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited[1] == keras_svag.__version__
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## ([\d.]+)", changes, re.MULTILINE)[1] == keras_svag.__version__


def test_public_names_are_what_all_says():
    public = {
        name
        for name in dir(keras_svag)
        if not name.startswith("_") and not hasattr(getattr(keras_svag, name), "__path__")
    }
    modules = {name for name in public if type(getattr(keras_svag, name)).__name__ == "module"}
    assert public - modules - {"check_backend"} == set(keras_svag.__all__) - {"__version__"}
