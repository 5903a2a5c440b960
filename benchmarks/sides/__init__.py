"""What is timed: our loops, and what they are compared with."""
