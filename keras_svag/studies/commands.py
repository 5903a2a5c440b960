"""Console scripts for folders of studies: svag-status, svag-judge, svag-compare, svag-plot."""

import argparse
import os
import sys

WORKDIR_HELP = "folder of a study"


def status(argv=None):
    """Prints the progress of a study and its provisional table; writes nothing."""
    parser = argparse.ArgumentParser("svag-status", description="Progress of a study.")
    parser.add_argument("workdir", help=WORKDIR_HELP)

    def run(arguments):
        from keras_svag.studies.status import read_status

        print(read_status(arguments.workdir))

    _main(parser, run, argv)


def judge(argv=None):
    """Judges the finished runs of a study again; never trains."""
    parser = argparse.ArgumentParser(
        "svag-judge",
        description="Judges the finished runs of a study again, without training. The old verdict "
        "stays.",
    )
    parser.add_argument("workdir", help=WORKDIR_HELP)
    parser.add_argument("--closeness", type=float, help="factor C, a number > 1")
    parser.add_argument("--window", type=_fractions, help="two fractions of the run: 0.5,0.8")
    parser.add_argument("--criterion", help="closeness, weight_norm or test_accuracy")

    def run(arguments):
        from keras_svag.studies import load

        result = load(arguments.workdir).judge(
            arguments.closeness, arguments.window, arguments.criterion
        )
        print(result)
        print(f"\n{result.details['judged']['correction']}\nWritten to {result.path}")

    _main(parser, run, argv)


def compare(argv=None):
    """Compares two studies."""
    parser = argparse.ArgumentParser(
        "svag-compare", description="Compares two studies of the same kind."
    )
    parser.add_argument("first", help=WORKDIR_HELP)
    parser.add_argument("second", help="folder of another study")
    parser.add_argument("--plot", metavar="FILE", help="save the curves of both to a file")

    def run(arguments):
        from keras_svag.report.drawing import save
        from keras_svag.studies import compare

        comparison = compare(arguments.first, arguments.second)
        print(comparison)
        if arguments.plot:
            save(arguments.plot, comparison.plot)
            print(f"\nFigure: {arguments.plot}")

    _main(parser, run, argv)


def plot(argv=None):
    """Saves the figures of a study."""
    parser = argparse.ArgumentParser("svag-plot", description="Saves the figures of a study.")
    parser.add_argument("workdir", help=WORKDIR_HELP)
    parser.add_argument("--format", default="pdf", help="pdf (default), svg or png")
    parser.add_argument("--folder", help="folder to save to (default: figures/ of the study)")

    def run(arguments):
        from keras_svag.studies import load

        paths = load(arguments.workdir).save_figures(arguments.format, arguments.folder)
        print("\n".join(map(str, paths)))

    _main(parser, run, argv)


def _fractions(text):
    return tuple(float(part) for part in text.split(","))


def _main(parser, run, argv):
    """Parses the arguments and runs; invalid input ends with one sentence, not a traceback."""
    # TensorFlow logs its CPU features on import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    arguments = parser.parse_args(argv)
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(1)
