"""How programs of TensorFlow are compiled."""
