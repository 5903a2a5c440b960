"""Estimates with confidence intervals, and tests that compare them."""
