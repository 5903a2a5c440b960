"""Scaling rules of Keras optimizers without an SVAG version, one line for each."""

import keras

from keras_svag.optimizers.registry import register_scaling_rule
from keras_svag.theory.scaling_rules import (
    ADAFACTOR_RULE,
    ADAGRAD_RULE,
    ADAM_RULE,
    LAMB_RULE,
    LION_RULE,
    MUON_RULE,
    SCHEDULE_FREE_RULE,
    ftrl_rule,
)

# `docs/theory_optimizers.md` derives the rules, and shows why two optimizers have none.
RULES = {
    "Adadelta": "the length of its steps follows from their own average, which depends on fourth "
    "moments of the gradient noise and never settles. Use Adam or RMSprop instead.",
    "Adafactor": ADAFACTOR_RULE,
    "Adagrad": ADAGRAD_RULE,
    "Adamax": "it divides by the largest of many gradients, which depends on how rare large ones "
    "are, not on their variance. Use Adam instead.",
    "Ftrl": lambda optimizer: (ftrl_rule(-optimizer.learning_rate_power),),
    "Lamb": LAMB_RULE,
    "Lion": LION_RULE,
    "Muon": MUON_RULE,
    "Nadam": ADAM_RULE,
    "ScheduleFreeAdamW": SCHEDULE_FREE_RULE,
}
for name, rule in RULES.items():
    # Older versions of Keras lack some.
    if hasattr(keras.optimizers, name):
        register_scaling_rule(getattr(keras.optimizers, name), rule)
