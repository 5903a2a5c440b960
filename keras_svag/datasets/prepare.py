"""Fills the cache of a data set, downloading it if it must be, and prints where it is.

    python -m keras_svag.datasets.prepare cifar10

Needs tensorflow and tensorflow_datasets. The folder that it prints needs neither: copy it to any
machine and give it as `data_dir` there.
"""

import argparse

from keras_svag.datasets.tfds.arrays import prepare_images


def main(argv=None):
    """Runs the command.

    Args:
        argv: list of strings. Defaults to those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m keras_svag.datasets.prepare",
        description="Fills the cache of a data set and prints the folder with its arrays.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="the data set, by its name in tensorflow_datasets, or svhn")
    parser.add_argument(
        "--data_dir",
        help="folder of tensorflow_datasets; default: TFDS_DATA_DIR or ~/tensorflow_datasets",
    )
    arguments = parser.parse_args(argv)
    try:
        print(prepare_images(arguments.name, arguments.data_dir))
    except (OSError, ValueError) as error:
        parser.exit(1, f"Data set {arguments.name!r} cannot be prepared: {error}\n")


if __name__ == "__main__":
    main()
