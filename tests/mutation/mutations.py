"""Mutants of a source file: each is the file with one small mistake.

The mistakes are those of mutmut, and statements that are left out. Left as it is what only says or
declares something: docstrings, annotations, decorators, `__repr__`, strings with a space or with
values in it (but not these values), what a `raise` says, and the names that checks of user input
put into their messages.
"""

import ast
import copy
import dataclasses
from collections.abc import Iterator

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Div,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
NAMES = {"min": "max", "any": "all", "minimum": "maximum"}
NAMES |= {new: old for old, new in NAMES.items()}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SPOKEN = ("__repr__", "__str__")


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One mistake in a file.

    Attributes:
        key: Names it, also when other lines of the file have changed.
        tree: The file with the mistake.
        function: Name and first line of the outermost function or method that differs, or `None`
            if a class or the module itself does.
    """

    key: str
    tree: ast.Module
    function: tuple[str, int] | None


class Mutants:
    """The mutants of a file, made when they are asked for."""

    def __init__(self, source: str) -> None:
        self._source, lines, keys = source, source.splitlines(), []
        for node, replacement, path, _ in self._sites():
            line = lines[node.lineno - 1].strip()
            key = f"{path or 'module'} | {line} | {_text(node)} -> {_text(replacement)}"
            keys.append(f"{key} #{keys.count(key) + 1}" if key in keys else key)
        self.keys = keys

    def __getitem__(self, number: int) -> Mutant:
        tree = ast.parse(self._source)
        node, replacement, _, function = list(self._sites(tree))[number]
        ast.copy_location(replacement, node)
        for parent in ast.walk(tree):
            for field, value in ast.iter_fields(parent):
                if value is node:
                    setattr(parent, field, replacement)
                elif isinstance(value, list):
                    setattr(parent, field, [replacement if v is node else v for v in value])
        return Mutant(self.keys[number], ast.fix_missing_locations(tree), function)

    def _sites(self, tree: ast.Module | None = None) -> Iterator[tuple]:
        tree = tree or ast.parse(self._source)
        checks = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "keras_svag._checks"
            for alias in node.names
        }
        return _sites(tree.body, checks, "", None)


def _sites(nodes, checks, path, function):
    """Yields node, replacement, name of the definition, and outermost function."""
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            yield from _sites(node.body, checks, f"{path}.{node.name}".lstrip("."), function)
        elif isinstance(node, FUNCTIONS):
            if node.name in SPOKEN:
                continue
            inner = f"{path}.{node.name}".lstrip(".")
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            # Made where the function is defined.
            yield from _sites(defaults, checks, inner, function)
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            yield from _sites(node.body, checks, inner, function or (inner, first))
        elif not _only_declares(node):
            for replacement in _replacements(node, function is not None):
                yield node, replacement, path, function
            yield from _sites(_parts(node, checks), checks, path, function)


def _only_declares(node):
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    if isinstance(node, ast.Assign):
        is_type = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
        return is_type or ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _parts(node, checks):
    """The nodes in a node that may be mutated."""
    if isinstance(node, ast.Raise):
        return []
    if isinstance(node, ast.FormattedValue):
        return [node.value]
    if isinstance(node, (ast.AnnAssign, ast.arg)):
        return [node.value] if getattr(node, "value", None) else []
    if isinstance(node, ast.Call) and ast.unparse(node.func) in checks:
        return [p for p in ast.iter_child_nodes(node) if not isinstance(p, ast.Constant)]
    return list(ast.iter_child_nodes(node))


def _replacements(node, in_function):
    """Yields the nodes that may stand in the place of a node."""
    kind = type(node)
    if kind is ast.Constant:
        yield from _other_constants(node.value)
    elif kind in (ast.BinOp, ast.BoolOp) and type(node.op) in SWAPPED:
        yield _copy(node, op=SWAPPED[type(node.op)]())
    elif kind is ast.Compare:
        for index, operator in enumerate(node.ops):
            if type(operator) in SWAPPED:
                yield _copy(node, ops=_replaced(node.ops, index, SWAPPED[type(operator)]()))
    elif kind is ast.UnaryOp:
        yield node.operand
    elif kind is ast.AugAssign:
        yield ast.Assign([node.target], node.value)
        if type(node.op) in SWAPPED:
            yield _copy(node, op=SWAPPED[type(node.op)]())
    elif kind in (ast.Assign, ast.AnnAssign) and in_function and node.value:
        if not _is_text(node.value):
            yield _copy(node, value=ast.Constant(None))
    elif kind is ast.Call:
        yield from _other_calls(node)
    elif kind is ast.Name and node.id in NAMES:
        yield _copy(node, id=NAMES[node.id])
    elif kind is ast.Attribute and node.attr in NAMES:
        yield _copy(node, attr=NAMES[node.attr])
    elif kind is ast.Expr and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif kind is ast.Raise and "NotImplementedError" not in ast.unparse(node):
        yield ast.Pass()
    elif kind is ast.Break:
        yield ast.Continue()
    elif kind is ast.Continue:
        yield ast.Break()
    elif kind in (ast.If, ast.While, ast.IfExp):
        # Other conditions have an operator that is turned round.
        if isinstance(node.test, (ast.Name, ast.Attribute, ast.Call, ast.Subscript)):
            yield _copy(node, test=ast.UnaryOp(ast.Not(), node.test))


def _other_constants(value):
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield ast.Constant(value + 1 if value + 1 != value else 2 * value)
    elif isinstance(value, str) and " " not in value:
        yield ast.Constant(f"XX{value}")


def _other_calls(node):
    """Each argument as None, and each keyword, or the last argument, left out."""
    for index, argument in enumerate(node.args):
        if not _is_text(argument) and not isinstance(argument, ast.Starred):
            yield _copy(node, args=_replaced(node.args, index, ast.Constant(None)))
    if len(node.args) > 1:
        yield _copy(node, args=node.args[:-1])
    for index, keyword in enumerate(node.keywords):
        if keyword.arg and not _is_text(keyword.value):
            nothing = ast.keyword(keyword.arg, ast.Constant(None))
            yield _copy(node, keywords=_replaced(node.keywords, index, nothing))
            yield _copy(node, keywords=_replaced(node.keywords, index))


def _is_text(node):
    """Whether a node is None or a text, of which nothing would be gained as None."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, str))
    )


def _copy(node, **changes):
    copied = copy.copy(node)
    for field, value in changes.items():
        setattr(copied, field, value)
    return copied


def _replaced(nodes, index, *new):
    return [*nodes[:index], *new, *nodes[index + 1 :]]


def _text(node):
    """The first line of a node as code."""
    return ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split("\n")[0]
