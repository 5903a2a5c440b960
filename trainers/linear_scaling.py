"""How far does the linear scaling rule hold? Batch sizes with learning rates in proportion.

    python -m trainers.linear_scaling --config=configs/digits.py --workdir=/tmp/scaling

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def main():
    """Entry point of the console script."""
    flags.run_study("linear_scaling")


if __name__ == "__main__":
    main()
