"""Many train steps of `fit` in one compiled program (`steps_per_execution`)."""
