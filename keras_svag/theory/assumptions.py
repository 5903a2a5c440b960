"""Assumptions of the paper's two conditions about a training run."""

# Named only where weights are excluded from weight decay: R then balances in another way.
DECAY_OF_ALL = "weight decay of all weights"
# What is so where an assumption does not hold.
VIOLATED = {
    "SGD without momentum": "the optimizer is not SGD without momentum",
    "weight decay": "there is no weight decay",
    DECAY_OF_ALL: "some weights are excluded from weight decay",
    "scale invariant network": "the network is not scale invariant",
}


def paper_assumptions(
    is_plain_sgd: bool, has_weight_decay: bool, scale_invariant: bool | None
) -> dict[str, bool | None]:
    """Maps each assumption of section 5 of the paper to True, False, or `None` if unknown."""
    return {
        "SGD without momentum": bool(is_plain_sgd),
        "weight decay": bool(has_weight_decay),
        "scale invariant network": scale_invariant,
    }
