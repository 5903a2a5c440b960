"""Assumptions of the paper's two conditions about a training run."""

# Named only where weights are excluded from weight decay: R then balances in another way.
DECAY_OF_ALL = "weight decay of all weights"


def paper_assumptions(
    is_plain_sgd: bool, has_weight_decay: bool, scale_invariant: bool | None
) -> dict[str, bool | None]:
    """Maps each assumption of section 5 of the paper to True, False, or `None` if unknown."""
    return {
        "SGD without momentum": bool(is_plain_sgd),
        "weight decay": bool(has_weight_decay),
        "scale invariant network": scale_invariant,
    }
