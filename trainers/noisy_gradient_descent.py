"""Is the shape of the gradient noise needed? SGD against Gaussian noise of its covariance.

    python -m trainers.noisy_gradient_descent --config=configs/digits.py --workdir=/tmp/ngd

The same command on the same workdir goes on where it was interrupted. Open `report.html` there.
"""

from . import flags


def study(config, workdir):
    """Runs the study and prints its table.

    Args:
        config: a `ConfigDict` such as `configs/digits.py` gives.
        workdir: folder for everything that the study leaves.
    """
    from keras_svag.study import format_comparisons, run_noisy_gradient_descent

    verdict = run_noisy_gradient_descent(config, workdir, shard=flags.shard())
    flags.print_result(verdict, format_comparisons, workdir)


def main():
    """Entry point of the console script."""
    flags.run(study, distributed=False)


if __name__ == "__main__":
    main()
