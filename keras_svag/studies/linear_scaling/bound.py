"""The largest kappa by N/G in words: a bound for plain SGD in equilibrium, otherwise a guide."""

from keras_svag._checks import english_list
from keras_svag.theory import assumptions
from keras_svag.theory.scaling_rules import HEAVY_BALL

BASE_EQUILIBRIUM = "equilibrium of the base runs"
_VIOLATED = {
    **assumptions.VIOLATED,
    BASE_EQUILIBRIUM: "the base runs are not in equilibrium",
}


def why_guide(premises):
    """Returns why N/G gives a guide, not a bound, in words; empty if it gives a bound."""
    reasons = [text for name, text in _VIOLATED.items() if premises.get(name) is False]
    if premises[BASE_EQUILIBRIUM] is None:
        reasons.append("equilibrium of the base runs could not be tested")
    return english_list(reasons) if reasons else ""


def describe_bound(facts, details):
    """Returns "at most" or "about", and sentences on what the predicted kappa is worth."""
    reasons = why_guide(details["premises"])
    qualifier = "at most"
    sentences = ["The bound on the batch size is strictest when measured at a small base batch."]
    if reasons:
        qualifier = "about"
        sentences = [f"This is a guide, not a bound, since {reasons}."]
    if facts.momentum:
        kappas = {
            "at the predicted kappa": details["predicted_max_kappa"]["tight"]["mean"],
            "at the observed kappa": details["observed_max_kappa"]["value"],
        }
        values = [
            f"{kappa * (1 - facts.momentum):.2g} {where}"
            for where, kappa in kappas.items()
            if kappa is not None
        ]
        limit = " and below 1" if facts.rule == HEAVY_BALL else ""
        sentences.append(
            "For the rule to hold with momentum, kappa (1 - momentum) must stay of order "
            f"1{limit}{': ' if values else ''}{english_list(values or [''])}."
        )
    return qualifier, sentences
