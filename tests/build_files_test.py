"""The BUILD files: every Python file in one target, and its deps are what the file imports."""

import ast
import collections
import dataclasses
import os
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
RULES = ("py_binary", "py_library", "py_test")

# Distributions that are not called as the module that one imports.
DISTRIBUTIONS = {"absl": "absl_py", "sklearn": "scikit_learn"}

# Folders that git ignores: those of builds and studies at the top, and caches everywhere.
IGNORED = re.compile(r"build|dist|runs|bazel-.*|(.*/)?(\..*|__pycache__|.*\.egg-info)")


@dataclasses.dataclass(frozen=True)
class Target:
    """A rule of a BUILD file; labels are written out, such as `//keras_svag:noise`."""

    label: str
    rule: str
    srcs: tuple
    deps: tuple
    data: tuple
    main_module: str | None


def python_files(root):
    """Paths below `root`, relative to it, of what belongs to the repository."""
    files = []
    for folder, subfolders, names in os.walk(root):
        here = pathlib.Path(folder).relative_to(root)
        subfolders[:] = [
            name
            for name in subfolders
            if not IGNORED.fullmatch((here / name).as_posix())
            and not pathlib.Path(folder, name, "pyvenv.cfg").exists()
        ]
        files += [here / name for name in names if name.endswith(".py")]
    return sorted(files)


def full_label(label, folder):
    """`:noise` in the folder `keras_svag` is `//keras_svag:noise`, as `//a` is `//a:a`."""
    if label.startswith("@"):
        return label
    if not label.startswith("//"):
        return f"//{folder}:{label.removeprefix(':')}"
    return label if ":" in label else f"{label}:{label.rpartition('/')[2]}"


def read_targets(root):
    """The targets of all BUILD files, which are valid Python."""
    folders = sorted({file.parent.as_posix().removeprefix(".") for file in python_files(root)})
    targets = []
    for folder in folders:
        build = root / folder / "BUILD"
        tree = ast.parse(build.read_text(encoding="utf-8") if build.exists() else "")
        for call in (node.value for node in tree.body if isinstance(node, ast.Expr)):
            if not isinstance(call, ast.Call) or call.func.id not in RULES:
                continue
            values = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
            targets.append(
                Target(
                    label=f"//{folder}:{values['name']}",
                    rule=call.func.id,
                    srcs=tuple(pathlib.Path(folder, src) for src in values.get("srcs", ())),
                    deps=tuple(full_label(dep, folder) for dep in values.get("deps", ())),
                    data=tuple(full_label(name, folder) for name in values.get("data", ())),
                    main_module=values.get("main_module"),
                )
            )
    return targets


def imported_modules(file, text):
    """Pairs (module, name or None) for all imports of a file, those in functions too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = file.parent.parts[: len(file.parent.parts) + 1 - node.level]
            prefix = ".".join(package) if node.level else ""
            module = ".".join(filter(None, (prefix, node.module)))
            yield from ((module, alias.name) for alias in node.names)


def module_of(file):
    """Name under which a file is imported."""
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def wanted_deps(root, target, labels):
    """The deps that a target of one file should have.

    Args:
        root: the repository.
        target: a `Target`.
        labels: dict from file to label.

    Returns:
        A set of labels.
    """
    [file] = target.srcs
    by_module = {module_of(other): label for other, label in labels.items()}
    wanted = set()
    imports = [*imported_modules(file, (root / file).read_text(encoding="utf-8"))]
    if target.main_module != module_of(file):
        imports.append((target.main_module or "", None))
    for module, name in imports:
        top = module.partition(".")[0]
        if f"{module}.{name}" in by_module:
            wanted.add(by_module[f"{module}.{name}"])
        elif module in by_module:
            wanted.add(by_module[module])
        elif top and top not in sys.stdlib_module_names:
            wanted.add(f"@pypi//{DISTRIBUTIONS.get(top, top)}")
    if target.rule == "py_test":  # pytest loads these of itself
        wanted |= {
            labels[folder / "conftest.py"]
            for folder in file.parents
            if folder / "conftest.py" in labels
        }
    return wanted - {target.label}


def coverage_problems(root):
    """A sentence for each file that is not in exactly one target, and the other way round."""
    files, targets = python_files(root), read_targets(root)
    owners = collections.Counter(src for target in targets for src in target.srcs)
    problems = [
        f"{file} is in the srcs of {owners[file]} targets; it must be in one of {file.parent}/BUILD"
        for file in files
        if owners[file] != 1
    ]
    for target in targets:
        if len(target.srcs) != 1:
            problems.append(f"{target.label} has {len(target.srcs)} srcs; write one target a file")
        problems += [
            f"{target.label} has srcs {src}, and there is no such file"
            for src in target.srcs
            if src not in files
        ]
    return problems


def dependency_problems(root):
    """A sentence for each target whose deps are not the imports of its file."""
    targets = read_targets(root)
    labels = {src: target.label for target in targets for src in target.srcs}
    problems = []
    for target in targets:
        wanted = wanted_deps(root, target, labels)
        lacking, surplus = wanted - set(target.deps), set(target.deps) - wanted
        if len(target.deps) != len(set(target.deps)):
            problems.append(f"{target.label} names a dep twice")
        if lacking:
            problems.append(f"{target.label} lacks the deps {sorted(lacking)}")
        if surplus:
            problems.append(f"{target.label} has deps that it does not import: {sorted(surplus)}")
    return problems


def find_cycle(targets):
    """A list of labels that depend on each other in a ring, or None."""
    edges = {target.label: {*target.deps, *target.data} for target in targets}
    done, path = set(), []

    def visit(label):
        if label in path:
            return [*path[path.index(label) :], label]
        if label in done or label not in edges:
            return None
        path.append(label)
        cycle = next(filter(None, map(visit, sorted(edges[label]))), None)
        path.pop()
        done.add(label)
        return cycle

    return next(filter(None, map(visit, sorted(edges))), None)


def test_every_python_file_is_in_exactly_one_target():
    assert python_files(ROOT)
    problems = coverage_problems(ROOT)
    assert not problems, "\n".join(problems)


def test_deps_are_the_imports():
    problems = dependency_problems(ROOT)
    assert not problems, "\n".join(problems)


def test_no_target_depends_on_itself():
    assert find_cycle(read_targets(ROOT)) is None


def test_tests_are_run_by_pytest_and_programs_by_their_name():
    # Under `python x_test.py` a pytest file defines its tests, runs none of them and succeeds.
    for target in read_targets(ROOT):
        for src in target.srcs:
            program = 'if __name__ == "__main__":' in (ROOT / src).read_text(encoding="utf-8")
            if src.name.endswith("_test.py"):
                wanted = ("py_test", "pytest")
            elif program:
                wanted = ("py_binary", module_of(src))
            else:
                wanted = ("py_library", None)
            assert (target.rule, target.main_module) == wanted, target.label


def test_rules_and_labels_exist():
    targets = read_targets(ROOT)
    labels = {target.label for target in targets}
    for target in targets:
        build = ROOT / target.srcs[0].parent / "BUILD"
        load = f'load("@rules_python//python:{target.rule}.bzl", "{target.rule}")'
        assert load in build.read_text(encoding="utf-8"), f"{build} lacks {load}"
        for label in target.data:
            folder, _, name = label.removeprefix("//").partition(":")
            exists = label in labels or (ROOT / folder / name).is_file()
            assert exists, f"{target.label} has data {label}, and there is no such file or target"


def test_external_deps_are_declared_in_setup():
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    setup = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    words = {word.arg: word.value for word in setup.keywords}
    requirements = ast.literal_eval(words["install_requires"])
    requirements += sum(ast.literal_eval(words["extras_require"]).values(), [])
    names = {re.match(r"[\w.-]+", text)[0].lower() for text in requirements} | {"setuptools"}
    declared = {"@pypi//" + re.sub(r"[-_.]+", "_", name) for name in names}
    used = {dep for target in read_targets(ROOT) for dep in target.deps if dep.startswith("@")}
    assert used <= declared, f"imported, but not declared in setup.py: {sorted(used - declared)}"


# What the checks above must find, in a repository of two files.

BUILD = """
py_library(
    name = "a",
    srcs = ["a.py"],
    deps = [{a}],
)

py_library(
    name = "b",
    srcs = ["b.py"],
    deps = [{b}],
)
"""


def make_repository(root, a, b, build):
    """Writes `p/a.py`, `p/b.py` and `p/BUILD`."""
    (root / "p").mkdir()
    for name, text in (("a.py", a), ("b.py", b), ("BUILD", build)):
        (root / "p" / name).write_text(text)


@pytest.mark.parametrize(
    "build, message",
    [
        ("", "p/a.py is in the srcs of 0 targets"),
        (2 * BUILD.format(a="", b=""), "p/b.py is in the srcs of 2 targets"),
        (BUILD.format(a="", b="").replace("b.py", "c.py"), "there is no such file"),
        (
            'py_library(name = "all", srcs = ["a.py", "b.py"])',
            "//p:all has 2 srcs; write one target a file",
        ),
    ],
    ids=["missing", "twice", "no_file", "two_files"],
)
def test_finds_wrong_srcs(tmp_path, build, message):
    make_repository(tmp_path, "", "", BUILD.format(a="", b=""))
    assert coverage_problems(tmp_path) == []
    (tmp_path / "p" / "BUILD").write_text(build)
    assert message in "\n".join(coverage_problems(tmp_path))


@pytest.mark.parametrize(
    "line, dep",
    [
        ("import p.a", ":a"),
        ("import p.a as x", "//p:a"),
        ("from p import a", ":a"),
        ("from p.a import x", ":a"),
        ("from . import a", ":a"),
        ("from .a import x", ":a"),
        ("def f():\n    from p import a", ":a"),
        ("import numpy.linalg", "@pypi//numpy"),
        ("from sklearn.datasets import load_digits", "@pypi//scikit_learn"),
    ],
)
def test_finds_wrong_deps(tmp_path, line, dep):
    make_repository(tmp_path, "import os", line, BUILD.format(a="", b=f'"{dep}"'))
    assert dependency_problems(tmp_path) == []
    label = full_label(dep, "p")
    (tmp_path / "p" / "BUILD").write_text(BUILD.format(a="", b=""))
    assert dependency_problems(tmp_path) == [f"//p:b lacks the deps ['{label}']"]
    (tmp_path / "p" / "b.py").write_text("import os.path")
    (tmp_path / "p" / "BUILD").write_text(BUILD.format(a="", b=f'"{dep}"'))
    assert dependency_problems(tmp_path) == [f"//p:b has deps that it does not import: ['{label}']"]


def test_finds_a_cycle(tmp_path):
    make_repository(
        tmp_path, "from p import b", "from p import a", BUILD.format(a='":b"', b='":a"')
    )
    assert find_cycle(read_targets(tmp_path)) == ["//p:a", "//p:b", "//p:a"]
