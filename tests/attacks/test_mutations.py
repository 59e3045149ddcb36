"""A sample of the mutations of `python -m tests.attacks.mutations`."""

import os

import pytest

from tests.attacks.mutations import attack
from tests.attacks.readers import file_kinds

EACH = int(os.environ.get("COVJAX_FUZZ", 7))  # mutations of each kind


@pytest.mark.filterwarnings("ignore")
def test_a_sample_of_mutations(tmp_path):
    pytest.importorskip("h5py")
    for name, kind in file_kinds(tmp_path).items():
        result = attack(name, kind, EACH)
        assert not result.problems, "\n".join(result.problems)
        assert result.refused + result.same + result.other == EACH
        assert result.refused or name == "table.csv"
