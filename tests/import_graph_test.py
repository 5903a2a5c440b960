"""The layers of the package: an import that points upwards, or from study to study, fails here."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "keras_svag"
# From the bottom up: a folder or file may import its own layer and those before it.
LAYERS = (
    ("_backend", "_checks", "_json", "_keras", "_scratch", "_terminal", "version"),
    ("theory",),
    ("xla_policy", "models", "schedules", "datasets", "optimizers", "distribution"),
    ("fused_steps", "trainer", "noise", "device_loop", "gaussian_noise"),
    ("accelerators", "recipe"),
    ("engine",),
    ("report",),
    ("advice", "callbacks"),
    ("studies",),
    ("config",),
)
RANKS = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
# What the three of the rules may not know, whatever their rank.
FORBIDDEN = {
    "engine": {"studies", "config", "report", "advice", "callbacks"},
    "report": {"studies", "config", "advice", "callbacks"},
    "theory": {name for name in RANKS if name not in ("theory", "_checks")},
}


def imports_of(path, known):
    """Those of the `known` modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found & known


def files(package=PACKAGE):
    return sorted(package.rglob("*.py"))


def modules(package):
    """Names of the modules and folders in the package."""
    paths = (path.relative_to(package.parent).with_suffix("") for path in files(package))
    names = {".".join(path.parts) for path in paths}
    return names | {name.removesuffix(".__init__") for name in names} - {package.name}


def part_of(module):
    return module.split(".")[1]


def violations(package=PACKAGE):
    """Imports that break a rule, as sentences."""
    broken, known = [], modules(package)
    for path in files(package):
        place = path.relative_to(package)
        part = place.with_suffix("").parts[0]
        if part == "__init__":
            continue
        for module in imports_of(path, known):
            other = part_of(module)
            if RANKS[other] > RANKS[part] or other in FORBIDDEN.get(part, ()):
                broken.append(f"{place} imports {module}, which is above it")
            own, its = place.parts[1:-1], module.split(".")[2:]
            if part == other == "studies" and own and is_study(package, its) and its[0] != own[0]:
                broken.append(f"{place} imports {module}, which is another study")
    return broken


def is_study(package, parts):
    return parts[:1] not in ([], ["base"]) and (package / "studies" / parts[0]).is_dir()


def test_no_import_points_upwards():
    assert violations() == []


def test_every_part_of_the_package_has_a_layer():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in files()}
    assert parts - {"__init__"} == set(RANKS)


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("engine/execution.py", "from keras_svag.studies import table"),
        ("engine/execution.py", "def f():\n    from keras_svag.config import validate"),
        ("report/page.py", "import keras_svag.studies.base.result"),
        ("theory/drift.py", "from keras_svag import device_loop"),
        ("studies/sde_validity/study.py", "from keras_svag.studies.linear_scaling import study"),
    ],
)
def test_a_broken_rule_is_seen(tmp_path, file, line):
    package = tmp_path / "keras_svag"
    for path in files():
        copy = package / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    with (package / file).open("a", encoding="utf-8") as opened:
        opened.write(f"\n{line}\n")
    assert len(violations(package)) >= 1
