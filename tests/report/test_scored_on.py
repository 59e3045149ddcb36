"""What the page of a run says scores are of."""

import pytest

from covjax.report.run.scores import scored_on


@pytest.mark.parametrize(
    ("patients", "text"), [(None, ""), (1, ", 1 patient"), (3, ", 3 patients")]
)
def test_patients_are_counted_where_known(patients, text):
    scored = {"n": 5, "n_patients": patients}
    assert scored_on(scored, "test") == f"Test split, 5 slices{text}"
