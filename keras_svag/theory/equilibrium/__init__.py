"""Equilibrium of R, N and G: identities, tests, and the window to average over."""
