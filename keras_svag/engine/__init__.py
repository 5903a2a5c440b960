"""Executes runs of a recipe and leaves records: knows no study, no config and no verdict."""
