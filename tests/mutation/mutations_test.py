"""Tests of tests/mutation/mutations.py."""

import ast
import json

import pytest

from tests.mutation.mutations import Mutants
from tests.mutation.run import EQUIVALENT, PACKAGE

LISTED = json.loads(EQUIVALENT.read_text("utf-8"))

SOURCE = '''"""Says what it is."""

from keras_svag._checks import positive_int

LIMIT = 3


class Model:
    """A model."""

    size: int = 1

    def __repr__(self) -> str:
        return "a" + "b"

    def grow(self, by: int = 2) -> "Model":
        """Grows."""
        by = positive_int("by", by)
        if self.size + by > LIMIT:
            raise ValueError(f"too large: {by + 1}")
        return self
'''


def test_each_mutant_is_the_source_with_one_change():
    mutants = Mutants(SOURCE)
    texts = [ast.unparse(mutants[number].tree) for number in range(len(mutants.keys))]
    assert len(set(texts)) == len(set(mutants.keys)) == len(texts) == 9
    assert ast.unparse(ast.parse(SOURCE)) not in texts
    for wanted in ("LIMIT = 4", "size: int = 2", "by: int=3", "self.size - by", ">= LIMIT", "pass"):
        assert sum(wanted in text for text in texts) == 1, wanted


def test_what_only_says_something_is_left_as_it_is():
    mutants = Mutants(SOURCE)
    for number in range(len(mutants.keys)):
        text = ast.unparse(mutants[number].tree)
        assert "'a' + 'b'" in text and '"""A model."""' in text
        assert "positive_int('by'" in text or "by = None" in text
        assert "{by + 1}" in text or "raise" not in text


def test_a_mutant_knows_the_function_whose_code_changes():
    mutants = Mutants(SOURCE)
    functions = {mutants[number].function for number in range(len(mutants.keys))}
    assert functions == {None, ("Model.grow", 16)}


@pytest.mark.parametrize("file", LISTED)
def test_equivalent_mutants_exist_and_have_a_reason(file):
    keys = Mutants((PACKAGE / file).read_text("utf-8")).keys
    assert set(LISTED[file]) <= set(keys) and all(LISTED[file].values())
