"""What the tests of the report share."""

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the slow part of a figure, where a test looks at something else."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, **_: out.write(b"drawn"))
