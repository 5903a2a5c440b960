"""Chains of a toy in equilibrium, which several tests look at."""

import pytest

from tests.theory.scale_invariant_toy import simulate


@pytest.fixture(scope="session")
def equilibria():
    """For each ell the columns of chains in equilibrium, and the steps of a record."""
    return {ell: simulate(ell) for ell in (1, 2, 8)}
