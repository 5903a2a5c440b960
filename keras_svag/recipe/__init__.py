"""Recipes: the training run that everything else in the package studies."""

from keras_svag.recipe.facts import TrainingFacts
from keras_svag.recipe.recipe import Recipe

__all__ = ["Recipe", "TrainingFacts"]
