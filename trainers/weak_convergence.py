"""Measures the order at which SVAG converges weakly to its SDE.

    python -m trainers.weak_convergence --config=configs/weak_convergence.py --workdir=/tmp/weak

The same command on the same workdir resumes an interrupted study. Its result is `report.html`.
"""

from . import startup


def main():
    """Runs the study."""
    startup.begin()
    from . import flags

    flags.run_study("weak_convergence", "Weak convergence", __doc__, distributed=False)


if __name__ == "__main__":
    main()
