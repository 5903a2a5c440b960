"""Tests if SGD is well modeled by its SDE, by comparing it with SVAG at several ell.

    python -m trainers.sde_validity --config=configs/digits.py --workdir=/tmp/digits

The same command on the same workdir resumes an interrupted study. Its result is `report.html`.
"""

from . import startup


def main():
    """Runs the study."""
    startup.begin()
    from . import flags

    flags.run_study("sde_validity", "SDE validity", __doc__)


if __name__ == "__main__":
    main()
