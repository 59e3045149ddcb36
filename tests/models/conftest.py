"""The weights and inputs of every test of the networks."""

import pytest

from tests.models.seeding import seeded_input, seeded_variables


@pytest.fixture
def seeded():
    """(variables of a model, input of a shape)."""
    return seeded_variables, seeded_input
