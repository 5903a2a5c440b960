"""Command that prepares the cache of a data set, downloading it if needed, and prints its folder.

    python -m keras_svag.datasets.prepare cifar10

It needs tensorflow and tensorflow_datasets. The folder does not: copy it to any machine and pass it
as `data_dir` there.
"""

import argparse

from keras_svag.datasets.tfds.arrays import prepare_images


def main(argv=None):
    """Runs the command; `argv` defaults to the arguments of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_svag.datasets.prepare",
        description="Prepares the cache of a data set and prints the folder with its arrays.",
        allow_abbrev=False,
    )
    parser.add_argument("name", help="name in tensorflow_datasets, or svhn")
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
