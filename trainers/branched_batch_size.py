"""Measures how far the batch size can be raised in the middle of a run, by branches of it.

    python -m trainers.branched_batch_size --config=configs/digits.py --workdir=/tmp/branches

The same command on the same workdir resumes an interrupted study. Its result is `report.html`.
"""

from . import startup


def main():
    """Runs the study."""
    startup.begin()
    from . import flags

    flags.run_study("branched_batch_size", "Branched batch size", __doc__)


if __name__ == "__main__":
    main()
