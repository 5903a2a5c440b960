"""TensorFlow compiles only for devices that it has."""

Target = None
