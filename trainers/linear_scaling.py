"""Finds how far the linear scaling rule holds, by training at several batch sizes.

    python -m trainers.linear_scaling --config=configs/digits.py --workdir=/tmp/scaling

The same command on the same workdir resumes an interrupted study. Its result is `report.html`.
"""

from . import startup


def main():
    """Runs the study."""
    startup.begin()
    from . import flags

    flags.run_study("linear_scaling", "Linear scaling", __doc__)


if __name__ == "__main__":
    main()
