"""Counts of what a compiled program does, from the text of its HLO."""

import collections
import dataclasses
import math
import re

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{$")
TYPE = re.compile(r"\b(pred|bf16|[sufc]\d+\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^}]*))?\})?")
CALLED = re.compile(r"(?:calls|body|condition|to_apply)=%?([\w.\-]+)")
CALLED_LISTS = re.compile(r"(?:called_computations|branch_computations)=\{([^}]*)\}")
TARGET = re.compile(r'custom_call_target="([^"]*)"')
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
# Instructions that neither compute nor move anything when the program runs.
FREE = {
    "after-all",
    "bitcast",
    "call",
    "conditional",
    "constant",
    "get-tuple-element",
    "parameter",
    "partition-id",
    "tuple",
    "while",
}
CALLERS = {"call", "conditional", "while", "async-start"}
HOST_TRANSFERS = {"infeed", "outfeed", "send", "recv"}
HOST_TARGETS = re.compile("callback|host", re.IGNORECASE)
# Memory spaces in layouts: of the host, and of a TPU's core.
HOST_SPACE, ON_CHIP_SPACE = "S(5)", "S(1)"


@dataclasses.dataclass(frozen=True)
class Shape:
    """One array of the type of an instruction."""

    dtype: str
    dimensions: str
    order: str
    layout: str

    @property
    def bytes(self):
        """Returns its size without padding."""
        sizes = [int(size.lstrip("<=")) for size in self.dimensions.split(",") if size]
        bits = 8 if self.dtype == "pred" else int(re.search(r"\d+", self.dtype)[0])
        return math.prod(sizes) * bits / 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction: what it is, its shapes, the names of its operands, and its attributes."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    text: str

    @property
    def target(self):
        """Returns the target of a custom call, or an empty string."""
        found = TARGET.search(self.text)
        return found[1] if found else ""


class Module:
    """The instructions of a program by computation."""

    def __init__(self, text):
        self.computations = collections.defaultdict(list)
        self.entry = current = None
        for line in text.splitlines():
            if found := COMPUTATION.match(line):
                current = found[2]
                self.entry = current if found[1] else self.entry
            elif found := INSTRUCTION.match(line):
                self.computations[current].append(_instruction(*found.groups()))
        self.by_name = {i.name: i for i in self.instructions}

    @property
    def instructions(self):
        """Returns all instructions, those inside fusions too."""
        return [i for computation in self.computations.values() for i in computation]

    @property
    def kernels(self):
        """Returns the instructions that run one after the other; those of a loop count once."""
        found, todo, seen = [], [self.entry], set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            for instruction in self.computations[name]:
                if instruction.opcode in CALLERS:
                    todo += CALLED.findall(instruction.text)
                    lists = ",".join(CALLED_LISTS.findall(instruction.text))
                    todo += [part.strip(" %") for part in lists.split(",") if part]
                if instruction.opcode not in FREE and not instruction.opcode.endswith("-done"):
                    found.append(instruction)
        return found

    def operand_shapes(self, instruction):
        """Returns the shapes of all operands of an instruction."""
        known = (self.by_name[name] for name in instruction.operands if name in self.by_name)
        return [shape for operand in known for shape in operand.shapes]


def _instruction(name, type_text, opcode, rest):
    shapes = tuple(Shape(*(part or "" for part in groups)) for groups in TYPE.findall(type_text))
    operands = tuple(re.findall(r"%([\w.\-]+)", rest.partition("), ")[0]))
    return Instruction(name, opcode, shapes, operands, rest)


def size(shapes):
    """Returns the bytes of some shapes."""
    return sum(shape.bytes for shape in shapes)


def count_collectives(module):
    """Returns `{kind: {"count": n, "bytes": b}}` of what chips send each other."""
    found = {}
    for instruction in module.instructions:
        kind = instruction.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            entry = found.setdefault(kind, {"count": 0, "bytes": 0})
            entry["count"] += 1
            entry["bytes"] += int(size(module.operand_shapes(instruction)))
    return found


def count_host_transfers(module):
    """Counts instructions by which the program waits for the host, or holds data there."""
    return sum(
        i.opcode.removesuffix("-done") in HOST_TRANSFERS
        or (i.opcode == "custom-call" and bool(HOST_TARGETS.search(i.target)))
        or any(HOST_SPACE in shape.layout for shape in i.shapes)
        for i in module.instructions
    )


def count_dynamic_shapes(module):
    """Counts instructions with a dimension that is known only when the program runs."""
    return sum(any("<=" in s.dimensions for s in i.shapes) for i in module.instructions)


def is_convolution(instruction):
    """Returns True for a convolution or a matrix product, also by a library of the GPU."""
    is_library = re.search(r"conv|gemm|matmul", instruction.target)
    return instruction.opcode in ("convolution", "dot") or bool(is_library)


def count_products(module):
    """Returns the number of convolutions and matrix products by the type of their operands."""
    types = collections.Counter()
    for instruction in filter(is_convolution, module.instructions):
        operands = [s.dtype for s in module.operand_shapes(instruction) if s.dimensions]
        types["f32" if "f32" in operands[:2] else operands[0]] += 1
    return dict(sorted(types.items()))


def count_layout_copies(module):
    """Returns number and bytes of arrays that are copied only to order them otherwise."""
    moved = []
    for instruction in module.instructions:
        if instruction.opcode not in ("copy", "transpose"):
            continue
        [result], operands = instruction.shapes, module.operand_shapes(instruction)
        if instruction.opcode == "transpose" or result.order != operands[0].order:
            moved.append(result.bytes)
    return {"count": len(moved), "bytes": int(sum(moved))}


def count_kernels(module):
    """Returns the number of kernels by kind, `"total"` among them."""
    kinds = collections.Counter(_kind(instruction) for instruction in module.kernels)
    return {"total": sum(kinds.values()), **dict(sorted(kinds.items()))}


def _kind(instruction):
    return instruction.target or instruction.opcode.removesuffix("-start")


def count_on_chip_bytes(module):
    """Returns bytes that kernels read from and write to the memory inside a TPU's core."""
    return int(size([shape for shape in _read_or_written(module) if _is_on_chip(shape)]))


def count_off_chip_bytes(module):
    """Returns bytes that kernels read from and write to all other memory."""
    return int(size([shape for shape in _read_or_written(module) if not _is_on_chip(shape)]))


def _read_or_written(module):
    """Returns the arrays that kernels read and write; what is read in part counts whole."""
    found = []
    for kernel in module.kernels:
        if kernel.opcode in ("slice", "dynamic-slice"):
            found += 2 * kernel.shapes[:1]
        elif kernel.opcode != "async-start":  # what it calls counts
            # The result of a copy that starts names its operand too.
            written = kernel.shapes[:1] if kernel.opcode == "copy-start" else kernel.shapes
            found += [*written, *module.operand_shapes(kernel)]
    return found


def _is_on_chip(shape):
    return ON_CHIP_SPACE in shape.layout
