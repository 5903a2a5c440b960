"""Names of the sampling modes, which decide what N and G estimate."""

WITH_REPLACEMENT = "with_replacement"
WITHOUT_REPLACEMENT = "without_replacement"
SHUFFLED_EPOCHS = "shuffled_epochs"
FIXED_ORDER = "fixed_order"
TWO_SHUFFLED_STREAMS = "two_shuffled_streams"

SAMPLING_MODES = (WITH_REPLACEMENT, WITHOUT_REPLACEMENT, SHUFFLED_EPOCHS, FIXED_ORDER)
# Here the batches of an epoch depend on each other, so there is no SDE to compare with.
MODES_WITHOUT_SDE = (SHUFFLED_EPOCHS, FIXED_ORDER)
