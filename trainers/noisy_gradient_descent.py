"""Compares SGD with gradient descent plus Gaussian noise of the same covariance.

    python -m trainers.noisy_gradient_descent --config=configs/digits.py --workdir=/tmp/ngd

The same command on the same workdir resumes an interrupted study. Its result is `report.html`.
"""

from . import startup


def main():
    """Runs the study."""
    startup.begin()
    from . import flags

    flags.run_study("noisy_gradient_descent", "Noisy gradient descent", __doc__, distributed=False)


if __name__ == "__main__":
    main()
