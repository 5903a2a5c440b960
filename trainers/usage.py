"""What trainers say about their command line: help, wrong flags, and what was probably meant."""

import contextlib
import difflib
import importlib.util
import os
import pathlib
import re
import shutil
import sys
import textwrap

from absl import flags

MAX_WIDTH = 100
# What the values of our flags look like, in the order of the help.
VALUES = {
    "config": "FILE.py[:VARIANT]",
    "config.FIELD": "VALUE",
    "recipe": "FILE.py:FUNCTION",
    "workdir": "FOLDER",
    "data_dir": "FOLDER",
    "shard": "i/n",
    "strategy": "none|mirrored|multi_worker|tpu",
    "tpu": "NAME",
    "join_timeout": "SECONDS",
    "estimate": None,
    "topology": "CHIP:NxM",
}
FIELD_HELP = (
    "Sets a field of the config file, which lists them all: --config.num_seeds=8, "
    "--config.sde_validity.batch_sizes=8,64."
)

_introduced = False


def introduce(title, config, recipe):
    """Prints the first line: imports take seconds, and only then it is known how much is to do."""
    # Not validated yet.
    parts = [config[part] for part in ("model", "dataset") if part in config]
    names = [part.get("name") for part in parts if hasattr(part, "get")]
    _introduce(f"{title} of {recipe or ' on '.join(map(str, filter(None, names)))}")


def introduce_early(title, file):
    """Prints the first line before a config file that imports Keras itself."""
    with contextlib.suppress(OSError):  # said when it is read as a config
        text = pathlib.Path(file).read_text("utf-8", errors="replace")
        if re.search(r"^(from|import) (keras|tensorflow|jax)", text, re.M):
            _introduce(f"{title} with {os.path.relpath(file)}")


def _introduce(text):
    global _introduced
    if not _introduced:
        _introduced = True
        starting = "" if "keras" in sys.modules else " Starting Keras ..."
        print(f"keras_svag {read_version()}: {text}.{starting}", file=sys.stderr, flush=True)


def read_version():
    """The version of the package, read as text: importing it takes seconds."""
    file = pathlib.Path(importlib.util.find_spec("keras_svag").origin).with_name("version.py")
    return re.search(r'^__version__ = "(.+)"$', file.read_text("utf-8"), re.M)[1]


def wants_help(argv):
    """Returns True if a command line asks for our help; --helpfull is that of absl."""
    return not {"-h", "-help", "--help", "--helpshort"}.isdisjoint(argv[1:])


def exit_with_help(program, description):
    """Prints usage, examples and our flags, and ends the program."""
    width = min(MAX_WIDTH, shutil.get_terminal_size().columns)
    command = describe_command(program)
    paragraphs = description.strip().split("\n\n")
    lines = [
        f"Usage: {command} --config=FILE.py --workdir=FOLDER [--FLAG=VALUE ...]",
        "",
        # Lines of code stay as they are.
        "\n\n".join(p if p[0] == " " else textwrap.fill(p, width) for p in paragraphs),
        "",
        "On your own model and data:",
        "",
        f"    {command} --recipe=my_file.py:make_recipe --workdir=runs/mine",
        "",
        "Flags:",
    ]
    for name, value in VALUES.items():
        text = FIELD_HELP if name == "config.FIELD" else flags.FLAGS[name].help
        text = text.removeprefix(f"<{value}>: ")  # of an enum
        lines += ["", f"  --{name}={value}" if value else f"  --{name}"]
        indent = " " * 6
        lines += textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
    lines += ["", "--helpfull also lists the flags of absl."]
    print("\n".join(lines))
    sys.exit(0)


def describe_command(program):
    """How a program is started, from `sys.argv[0]`."""
    name = os.path.basename(program)
    return f"python -m trainers.{name[:-3]}" if name.endswith(".py") else name


def exit_with_usage(message):
    """Prints an error in the command line, and ends the program."""
    print(f"{message}\nRun with --help for all flags.", file=sys.stderr)
    sys.exit(1)


def exit_with_error(error):
    """Prints an error in the input of the program, and ends it."""
    print(error, file=sys.stderr)
    sys.exit(1)


def unknown_flag(name):
    """The error for a flag that does not exist."""
    return f"Unknown flag --{name}.{did_you_mean(name, flags.FLAGS, '--')}"


def did_you_mean(word, known, prefix=""):
    """A question with the most similar of the known words, if there is one."""
    close = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {prefix}{close[0]}?" if close else ""


def wrong_field(error, argv):
    """The error for a field of the config that does not exist, or has another type."""
    # ml_collections wraps a `KeyError` in another, and each quotes the text of the inner one.
    received = error
    while isinstance(received, Exception) and received.args:
        received = received.args[0]
    received = ". ".join(str(received).splitlines())
    expected = "A flag --config.FIELD=VALUE must name a field of the config file and have a value "
    meant = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', received)
    for name in (argument.partition("=")[0] for argument in argv):
        parts = name.split(".")
        if meant and parts[0] == "--config" and meant[2] in parts:
            right = ".".join(meant[1] if part == meant[2] else part for part in parts)
            return f"{expected}of its type. Received: {name}. Did you mean {right}?"
    return f"{expected}of its type. Received: {received}"
