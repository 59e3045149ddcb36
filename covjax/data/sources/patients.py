"""Patients of slices: identifiers in names and tables, and pseudonyms that stand for them.

A pseudonym is an HMAC of the identifier under a key that is a digest of all that the files of the
data set hold, with their names. So it cannot be found by trying identifiers without having the data
themselves; and the same data, prepared again or elsewhere, have the same pseudonyms, by which
folds, splits and pooled predictions know each other. Other data, also the same with a file more,
have other pseudonyms: patients cannot be followed from set to set.
"""

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from covjax.data.contents import Contents
from covjax.data.listing import LeftOut
from covjax.errors import InputError

LOOKS_ALIKE = (
    "the name of another patient differs from this one's by capitals or leading zeros only: is it "
    "the same?"
)
LONG = 6  # digits from which on a number in a name is an identifier rather than a count


def match(pattern: str, name: str) -> str:
    """Returns the patient in a name: the pattern's first group, or its match. Raises InputError."""
    found = _matches(pattern, name)
    if not found:
        raise InputError(
            f"{name}: data.patient_pattern '{pattern}' finds no patient in it, correct the pattern"
        )
    return found[0]


def _matches(pattern: str, name: str) -> list[str]:
    """Returns all that a pattern finds in a name, in order."""
    found = [one[min(1, one.re.groups)] for one in re.finditer(pattern, name)]
    return [patient for patient in found if patient]


def patient_name(value: str) -> str:
    """Returns an identifier as it is compared: 1.0 of a spreadsheet is 1, an accent one letter.

    Leading zeros and capitals are kept: 001 is not 1.
    """
    text = unicodedata.normalize("NFC", value).strip()
    return re.sub(r"^(-?\d+)\.0+$", r"\1", text)


def look_alike(patients: Iterable[str]) -> set[str]:
    """Returns patients whose names differ from another's by capitals or leading zeros only."""
    spelled: dict[str, set[str]] = {}
    for patient in patients:
        spelled.setdefault(patient.casefold().lstrip("0"), set()).add(patient)
    return {patient for names in spelled.values() if len(names) > 1 for patient in names}


class Pseudonyms:
    """Gives the pseudonyms of one data set."""

    def __init__(self, contents: Contents):
        """Takes what the files of the set hold, as `covjax.data.contents.contents` has it."""
        self._key = hashlib.sha256(b"covjax pseudonyms" + json.dumps(contents).encode()).digest()

    def of(self, patient: str) -> str:
        """Returns what stands for a patient; "" (unknown) stays."""
        digest = hmac.new(self._key, patient.encode(errors="surrogateescape"), "sha256").hexdigest()
        return patient and "p" + digest[:10]

    def hide(self, name: str, patient: str, pattern: str = "", others: Collection[str] = ()) -> str:
        """Returns a name without names of patients: each occurrence is replaced by its pseudonym.

        Args:
          name: of a file.
          patient: of the file; capitals do not matter, and a number is not looked for within
            longer ones.
          pattern: what it finds are names of patients too.
          others: further patients, of whom whole words are replaced, unless these are short
            numbers.
        """
        name = unicodedata.normalize("NFC", name)
        found = [patient, *(_matches(pattern, name) if pattern else ())]
        own = {one.casefold(): one for one in reversed(found) if one}
        if not own:
            return self._without(name, others)
        sought = "|".join(map(_sought, sorted(own.values(), key=len, reverse=True)))
        parts = re.split(f"({sought})", name, flags=re.IGNORECASE)  # every second one is a patient
        hidden = [self.of(own.get(part.casefold(), part)) for part in parts[1::2]]
        rest = [self._without(part, others) for part in parts[::2]]
        return "".join(text for pair in zip(rest, [*hidden, ""], strict=True) for text in pair)

    def _without(self, text: str, others: Collection[str]) -> str:
        def replaced(word: re.Match) -> str:
            known = word[0] in others and (len(word[0]) >= LONG or not word[0].isdigit())
            return self.of(word[0]) if known else word[0]

        return re.sub(r"[^\W_]+", replaced, text) if others else text

    def hide_paths(self, text: str, paths: Iterable[Path], root: Path) -> str:
        """Returns a text in which pseudonyms stand for paths below `root`."""
        for path in sorted(paths, key=lambda path: len(str(path)), reverse=True):
            if path != root:
                text = text.replace(str(path), self.of(path.relative_to(root).as_posix()))
        return text

    def hide_left_out(self, left_out: Iterable[LeftOut]) -> dict[LeftOut, str]:
        """Returns what may be shown of files that were left out: {entry with a pseudonym: file}."""
        found = {}
        for one in left_out:
            path = PurePosixPath(one.file)
            hidden = self.of(one.file)
            stem, dot, suffix = path.name.partition(".")
            reason = one.reason.replace(stem, hidden) if stem else one.reason
            found[LeftOut(hidden + dot + suffix.rpartition(".")[2], reason)] = one.file
        return found


def _sought(patient: str) -> str:
    """Returns the expression that finds a patient in a name."""
    return rf"(?<!\d){patient}(?!\d)" if patient.isdigit() else re.escape(patient)
