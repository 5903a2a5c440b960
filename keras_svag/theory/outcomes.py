"""Outcomes of comparisons, as results and files have them."""

# Is the SDE a valid model?
VALID, INVALID = "valid", "invalid"
# Does the linear scaling rule hold? "base" marks the runs that all others are compared with.
HOLDS, FAILS, BASE = "holds", "fails", "base"
# Do two kinds of noise train alike?
EQUIVALENT, DIFFERENT = "equivalent", "different"
# The answer to any of these questions where the intervals are too wide.
INCONCLUSIVE = "inconclusive"
