"""What the paper's conditions assume of a training run: one place that says whether it is so."""


def paper_assumptions(is_plain_sgd, has_weight_decay, scale_invariant):
    """What the SDE condition and the bound on kappa assume of every run.

    Li, Malladi, Arora 2021 (arXiv 2102.12470), section 5. Elsewhere they are heuristics.

    Args:
        is_plain_sgd: whether the optimizer is SGD without momentum.
        has_weight_decay: whether there is weight decay.
        scale_invariant: whether scaling all trained weights leaves the outputs alone; `None` if
            that is not known.

    Returns:
        A dict from assumption to True, False or `None`.
    """
    return {
        "SGD without momentum": bool(is_plain_sgd),
        "weight decay": bool(has_weight_decay),
        "scale invariant network": scale_invariant,
    }
