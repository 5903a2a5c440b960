"""Recipes: somebody's training, as everything else in the package takes it."""

from keras_svag.recipe.facts import TrainingFacts
from keras_svag.recipe.recipe import Recipe

__all__ = ["Recipe", "TrainingFacts"]
