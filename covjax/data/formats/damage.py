"""One way of saying that a file cannot be read."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covjax.errors import InputError
from covjax.files import DAMAGE

LIBRARIES = ("nibabel", "pydicom")  # have exceptions that derive from nothing narrower


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns every way in which a file can be missing or damaged into one InputError naming it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; what matters is checked
            yield
    except InputError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise InputError(f"{path}: cannot be read ({error.strerror}), check the path") from None
        raise damaged(path, error) from None
    except Exception as error:
        if not isinstance(error, DAMAGE) and not type(error).__module__.startswith(LIBRARIES):
            raise
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception | str) -> InputError:
    """Returns the error for a file that holds what cannot be read."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: damaged or truncated ({reason[:200]}), replace or remove it")
