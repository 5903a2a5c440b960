"""What all tests share; it is read before any test file imports TensorFlow."""

import os

# TensorFlow tells of its CPU features on import; that would drown what a failing test says.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
