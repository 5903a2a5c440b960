"""Names that are in the files and configs of users, and so do not change."""

from keras_svag.theory import outcomes, quantities, sampling_modes, scaling_rules


def strings_of(module):
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str)
    }


def test_names_are_their_own_in_lower_case():
    names = {}
    for module in (outcomes, quantities, sampling_modes, scaling_rules):
        names |= strings_of(module)
    assert {name: value for name, value in names.items() if value != name.lower()} == {
        "NOISE": "gradient_noise",
        "SIGNAL": "gradient_signal",
    }
    assert len(names) == 23


def test_quantities_have_a_name_to_be_shown():
    assert [quantities.DISPLAY_NAMES[name].split()[-1] for name in quantities.QUANTITIES] == [
        "R",
        "N",
        "G",
    ]
    assert quantities.DISPLAY_NAMES["scaled_noise"].endswith("B N")
