"""The data set in which the tests of this folder plant faults."""

import pytest

from tests.audit.planted import healthy_set


@pytest.fixture
def slices():
    return healthy_set()
