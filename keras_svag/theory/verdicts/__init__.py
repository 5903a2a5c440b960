"""Verdicts of the studies as pure functions of one number per run."""
