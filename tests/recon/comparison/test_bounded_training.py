"""`recon compare --train-minutes` bounds every method that learns step by step."""

import pytest

from recon.base import METHODS
from recon.comparison.runner import _takes_minutes

CLOSED_FORM = {"anchored-regression", "patch-nearest-neighbours", "dictionary"}


LEARNS = [name for name, cls in METHODS.items() if cls.data_kind is not None and cls.examples()]


@pytest.mark.parametrize("name", LEARNS)
def test_training_is_bounded(name):
    assert _takes_minutes(METHODS[name].examples()[0]) != (name in CLOSED_FORM)
