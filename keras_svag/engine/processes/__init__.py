"""Runs side by side in worker processes, and their end on request."""
