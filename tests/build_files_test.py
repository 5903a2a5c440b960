"""The BUILD files: every Python file in one library, whose deps are what its files import."""

import ast
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDERS = ["", *sorted(path.parent.name for path in ROOT.glob("*/BUILD"))]
RULES = ("py_binary", "py_library", "py_test")

# Folders of builds, studies and environments, which git ignores.
IGNORED = re.compile(r"build|dist|runs|bazel-.*|\..*|.*venv.*")

# Distributions that are not called as the module that one imports.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "_pytest": "pytest",
    "absl": "absl_py",
    "sklearn": "scikit_learn",
}


def read_targets(folder):
    """Executes a BUILD file, which is valid Python: a list of the arguments of each rule."""
    base, targets = ROOT / folder, []

    def matches(patterns):
        return {path.relative_to(base).as_posix() for name in patterns for path in base.glob(name)}

    def glob(include, exclude=()):
        return sorted(matches(include) - matches(exclude))

    def recorder(rule):
        return lambda **words: targets.append({**words, "rule": rule})

    scope = dict.fromkeys(("filegroup", "load", "package"), lambda *args, **words: None)
    scope.update({rule: recorder(rule) for rule in RULES}, glob=glob)
    exec((base / "BUILD").read_text("utf-8"), scope)
    for target in targets:
        target["srcs"] = [pathlib.Path(folder, file) for file in target["srcs"]]
    return targets


def library_and_programs(folder):
    """The only library of a folder, and the list of its other targets."""
    targets = read_targets(folder)
    [library] = [target for target in targets if target["rule"] == "py_library"]
    return library, [target for target in targets if target is not library]


def imported_labels(file):
    """The deps that the absolute imports of a file ask for, those in functions too."""
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"))):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for top in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names:
            yield f"//{top}" if top in FOLDERS else f"@pypi//{DISTRIBUTIONS.get(top, top)}"


def test_every_python_file_is_in_one_library():
    # A glob of Bazel stops at a folder with a BUILD file of its own; the one above does not.
    assert not [path for folder in FOLDERS[1:] for path in (ROOT / folder).glob("*/**/BUILD")]
    owned = [file for folder in FOLDERS for file in library_and_programs(folder)[0]["srcs"]]
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    assert sorted(owned) == sorted(file for file in files if not IGNORED.fullmatch(file.parts[0]))


@pytest.mark.parametrize("folder", FOLDERS)
def test_deps_are_the_imports(folder):
    library, _ = library_and_programs(folder)
    wanted = {label for file in library["srcs"] for label in imported_labels(file)}
    assert sorted(library["deps"]) == sorted(wanted - {f"//{folder}"})


@pytest.mark.parametrize("folder", FOLDERS)
def test_programs_are_run_by_name_and_tests_by_pytest(folder):
    # Under `python x_test.py` a pytest file defines its tests, runs none of them and succeeds.
    library, programs = library_and_programs(folder)
    wanted = []
    for file in library["srcs"]:
        if file.name.endswith("_test.py"):
            wanted.append((file, "py_test", "pytest"))
        elif folder != "tests" and '__name__ == "__main__"' in (ROOT / file).read_text("utf-8"):
            wanted.append((file, "py_binary", ".".join(file.with_suffix("").parts)))
    found = [(*target["srcs"], target["rule"], target["main_module"]) for target in programs]
    assert sorted(found) == sorted(wanted)
    assert all(target["deps"] == [f":{folder}"] for target in programs)


def test_external_deps_are_declared_in_setup():
    nodes = ast.walk(ast.parse((ROOT / "setup.py").read_text("utf-8")))
    words = {word.arg: word.value for node in nodes for word in getattr(node, "keywords", ())}
    needed = ["setuptools", *ast.literal_eval(words["install_requires"])]
    needed += sum(ast.literal_eval(words["extras_require"]).values(), [])
    names = {re.match(r"[\w.-]+", text)[0].lower().replace("-", "_") for text in needed}
    used = {dep for folder in FOLDERS for dep in library_and_programs(folder)[0]["deps"]}
    assert {dep for dep in used if dep.startswith("@")} <= {f"@pypi//{name}" for name in names}
