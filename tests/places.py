"""Where the project lies, and the real slices that some tests read."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[1]
REAL = Path(os.environ.get("COVJAX_TEST_DATA") or ROOT.parent / "shared" / "data")
