"""Console scripts for folders of studies: svag-status, svag-judge, svag-compare, svag-plot."""

import argparse
import contextlib
import os
import sys
import warnings

from . import quiet, startup


def status(argv=None):
    """Prints the progress of a study and its provisional table; writes nothing."""
    startup.begin()
    parser = _parser("svag-status", "Progress of a study, also while it runs.", "workdir")
    arguments = parser.parse_args(argv)
    with _short_errors():
        from keras_svag.report.text import show
        from keras_svag.studies.status import read_status

        show(str(read_status(arguments.workdir)))


def judge(argv=None):
    """Judges the finished runs of a study again; never trains."""
    startup.begin()
    description = "Judges the finished runs of a study again; keeps the old verdict, never trains."
    parser = _parser("svag-judge", description, "workdir")
    parser.add_argument("--closeness", type=float, help="factor C, a number > 1")
    parser.add_argument("--window", type=_fractions, help="two fractions of the run: 0.5,0.8")
    criteria = "closeness, weight_norm, test_accuracy or test_error_ratio"
    parser.add_argument("--criterion", help=criteria)
    arguments = vars(parser.parse_args(argv))
    with _short_errors():
        from keras_svag.report.text import show
        from keras_svag.studies import load

        result = load(arguments.pop("workdir")).judge(**arguments)
        show(repr(result))
        print(f"\n{result.details['judged']['correction']}\nWritten to {result.path}")


def compare(argv=None):
    """Compares two studies."""
    startup.begin()
    parser = _parser("svag-compare", "Compares two studies of the same kind.", "first", "second")
    parser.add_argument("--plot", metavar="FILE", help="save the curves of both to a file")
    _add_size(parser)
    arguments = parser.parse_args(argv)
    with _short_errors():
        from keras_svag.engine.files import records, storage
        from keras_svag.report.drawing import save
        from keras_svag.report.text import show
        from keras_svag.studies import compare

        comparison = compare(arguments.first, arguments.second)
        show(repr(comparison))
        if arguments.plot:
            folder, _, name = arguments.plot.replace(os.sep, "/").rpartition("/")
            folder = storage.to_path(folder or ".", "plot")
            records.make_folder(folder, parents=True)
            path = folder / name
            save(path, lambda: comparison.plot(size=arguments.size))
            print(f"\nFigure: {path}")


def plot(argv=None):
    """Saves the figures of a study."""
    startup.begin()
    parser = _parser("svag-plot", "Saves the figures of a study.", "workdir")
    parser.add_argument("--format", default="pdf", help="pdf (default), svg or png")
    parser.add_argument("--folder", help="folder to save to (default: figures/ of the study)")
    _add_size(parser)
    arguments = parser.parse_args(argv)
    with _short_errors():
        from keras_svag.studies import load

        result = load(arguments.workdir)
        paths = result.save_figures(arguments.format, arguments.folder, size=arguments.size)
        print("\n".join(map(str, paths)))


def _add_size(parser):
    sizes = "paper (6.75 inches, the default), paper_column (3.3 inches), talk or notebook"
    parser.add_argument("--size", default="paper", help=sizes)


def _parser(program, description, *folders):
    parser = argparse.ArgumentParser(program, description=description)
    for name in folders:
        parser.add_argument(name, help="folder of a study")
    return parser


def _fractions(text):
    return tuple(float(part) for part in text.split(","))


@contextlib.contextmanager
def _short_errors():
    """Prints warnings, and invalid input, as one sentence; the latter ends with status 1."""
    quiet.set_levels()
    try:
        with quiet.imports():
            import keras_svag.studies  # noqa: F401
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(message, file=sys.stderr)
            yield
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
