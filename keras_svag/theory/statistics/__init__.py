"""Estimates with confidence intervals, and comparisons of them."""
