"""From the values of a CT to the 0..255 of a network: one path for training and use."""

from collections.abc import Collection

import numpy as np

from covjax.errors import InputError, unknown

WINDOWS = {"lung": (-600.0, 1500.0), "mediastinum": (40.0, 400.0)}  # centre and width, HU
AS_IS = "as_is"


def parse_window(text: str, field: str = "data.window") -> tuple[float, float]:
    """Returns centre and width in HU of a window, a name or "centre,width". Raises InputError."""
    if text in WINDOWS:
        return WINDOWS[text]
    try:
        centre, width = (float(part) for part in str(text).split(","))
    except ValueError:
        raise unknown(field, text, [*WINDOWS, '"centre,width"']) from None
    if not (np.isfinite([centre, width]).all() and width > 0):
        raise InputError(f"{field}: {text} must be centre and width in HU, the width above 0")
    return centre, width


def eight_bit(values: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """Brings values to uint8: HU through a window, those of 0..255 (`window` None) as they are."""
    if window is not None:
        centre, width = window
        values = (np.asarray(values, np.float64) - (centre - width / 2)) * (255 / width)
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def choose_window(
    name: object, values: str, trained_on: Collection[str], window: str, declared: str = ""
) -> tuple[float, float] | None:
    """Returns the window that brings a scan to what a run was trained on; None: as it is.

    Args:
      name: of the scan, for errors.
      values: hu or 8bit, what it holds.
      trained_on: what the training slices held, of these two.
      window: the run's, through which it saw HU.
      declared: the user's word: a window, which HU go through, or as_is, for 8-bit values of which
        the run saw none; "" for
        none. It is for scans of that kind only: what else a folder holds is treated as without it.

    Raises:
      InputError: the run saw no such values and the user did not say what to do.
    """
    if declared and (declared == AS_IS) == (values == "8bit"):
        return None if declared == AS_IS else parse_window(declared, "--window")
    if values in trained_on:
        return parse_window(window) if values == "hu" else None
    if values == "hu":
        raise InputError(
            f"{name}: in HU, but this run was trained on 8-bit pictures, through which window is "
            "not known; name it, e.g. --window=lung"
        )
    raise InputError(
        f"{name}: 8-bit values, but this run was trained on HU through the window {window}; if "
        f"these were windowed alike, use --window={AS_IS}"
    )
