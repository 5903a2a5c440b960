"""What the theory says, in NumPy and plain Python."""
