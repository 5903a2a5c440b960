"""Tests of keras_svag/theory/outcomes.py."""

import pytest

from keras_svag.theory import tone, worst


def test_every_question_has_a_good_a_bad_and_an_open_answer():
    for good, bad in [("valid", "invalid"), ("holds", "fails"), ("equivalent", "different")]:
        assert (tone(good), tone(bad), tone("inconclusive")) == ("good", "bad", "open")
        assert worst([good, good]) == good
        assert worst([good, "inconclusive", good]) == "inconclusive"
        assert worst(iter([good, "inconclusive", bad, good])) == bad
    assert tone("base") == "base"
    assert worst(["base", "holds"]) == "holds"


@pytest.mark.parametrize("outcomes", [[], ["base"], ["valid", "perhaps"]])
def test_nothing_to_choose_from(outcomes):
    with pytest.raises(ValueError, match="Received: outcome"):
        worst(outcomes)
