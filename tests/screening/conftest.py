"""What the tests of screening share."""

import numpy as np
import pytest

from covjax.screening.screener import Screener
from tests.screening.by_hand import write_picture

LOADED = {}  # screeners of earlier tests: each would compile anew


@pytest.fixture
def loaded_once(monkeypatch):
    """Loads a run that an earlier test loaded no second time."""
    real = Screener.from_workdir

    def load(*arguments):
        if arguments not in LOADED:
            LOADED[arguments] = real(*arguments)
        return LOADED[arguments]

    monkeypatch.setattr(Screener, "from_workdir", load)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "new slices"
    rng = np.random.default_rng(0)
    for k, name in enumerate(("a b.png", "sub/ü%20.png", "c.jpg")):
        write_picture(folder / name, rng.integers(0, 256, (40 + k, 50), np.uint8))
    return folder
