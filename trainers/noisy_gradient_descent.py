"""Is the shape of the gradient noise needed? SGD against Gaussian noise of its covariance.

    python -m trainers.noisy_gradient_descent --config=configs/digits.py --workdir=/tmp/ngd

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def main():
    """Entry point of the console script."""
    flags.run_study("noisy_gradient_descent", distributed=False)


if __name__ == "__main__":
    main()
