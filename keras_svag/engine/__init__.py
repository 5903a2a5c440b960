"""Runs of a study: executed, recorded, saved, resumed."""
