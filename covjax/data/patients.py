"""Whose slice it is: identifiers found in names, and pseudonyms that stand for them in all that is written."""

import hashlib
import re

from covjax.errors import InputError


def check_pattern(pattern: str) -> None:
    """Raises InputError if `data.patient_pattern` is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise InputError(f"data.patient_pattern: '{pattern}' is not a regular expression ({error})") from None


def match(pattern: str, name: str) -> str:
    """Returns the patient in a name: the pattern's first group, or its match. Raises InputError if there is none."""
    return _found(pattern, name)[0]


def _found(pattern: str, name: str) -> tuple[str, tuple[int, int]]:
    found = re.search(pattern, name)
    group = min(1, found.re.groups) if found else 0
    if not found or not found[group]:
        raise InputError(f"{name}: data.patient_pattern '{pattern}' finds no patient in it, correct the pattern")
    return found[group], found.span(group)


def pseudonym(patient: str) -> str:
    """Returns what stands for a patient: the same everywhere for the same identifier; "" stays unknown.

    Short identifiers can be guessed from it by trying them all: it keeps names out of reports, no more.
    """
    return patient and "p" + hashlib.sha256(f"covjax patient {patient}".encode()).hexdigest()[:10]


def disguised(pattern: str, name: str) -> str:
    """Returns a name with the pseudonym of the patient in the patient's place."""
    patient, (start, end) = _found(pattern, name)
    return name[:start] + pseudonym(patient) + name[end:]
