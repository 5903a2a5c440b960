"""Recipes and studies as nested dicts, for the trainers."""

from keras_svag.config.study import build_study
from keras_svag.config.validate import validate_config

__all__ = ["build_study", "validate_config"]
