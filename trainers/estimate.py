"""`--estimate`: what a study costs at least on TPUs, printed instead of running it."""

import os
import re

from absl import flags

_ESTIMATE = flags.DEFINE_boolean(
    "estimate",
    False,
    "Prints the least cost of the study on TPUs, which need not be there, and runs nothing. Needs "
    "JAX and the extra [tpu-compile].",
)
_TOPOLOGY = flags.DEFINE_string(
    "topology", "v5e:1x1", "TPUs of --estimate, such as v5e:2x4: a chip, and how many there are."
)


def is_asked():
    """Returns True if the flag is given."""
    return _ESTIMATE.value


def prepare(argv):
    """Chooses JAX, on the CPU, before configs are read, which may import it."""
    if any(re.fullmatch(r"--?estimate(=(true|t|1))?", argument, re.I) for argument in argv):
        os.environ.setdefault("KERAS_BACKEND", "jax")
        os.environ["JAX_PLATFORMS"] = "cpu"


def print_estimate(study, can_share):
    """Prints the `Estimate` of a study's first runs."""
    from keras_svag.engine.estimate import estimate_runs

    specs = study.specs(study.first_plan())
    print(estimate_runs(study.recipe, specs, _TOPOLOGY.value, can_share))
