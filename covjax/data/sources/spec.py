"""What is known of a source of slices, in one place for opening, checking and printing."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from covjax.data.settings import DataSettings
from covjax.data.sources.source import Source
from covjax.errors import InputError


@dataclass(frozen=True)
class SourceSpec:
    """A value of `data.source`: what it is, where its slices come from and what they know."""

    name: str
    title: str
    open: Callable[[Path, DataSettings], Source]  # takes data.path and the `data` section of a run
    holds: str  # slices, patients and what else is known of them
    unpack: str = ""  # what data.path must hold; "": there is none
    where: str = ""  # of a public set: where its authors offer it
    licence: str = ""  # the page of the authors has the last word
    declares_patients: bool = False  # users say of which patient a slice is
    has_spacing: bool = True  # files hold the mm between pixels
    has_classes: bool = True  # masks hold numbers, which data.classes names
    split: str = ""  # the split that it comes with

    def missing(self, folder: Path, what: str) -> InputError:
        """Returns the error for a folder that lacks a part of a public set."""
        return InputError(
            f"{folder}: holds no {what}; {self.name} is {self.unpack}, from {self.where}, licence: "
            f"{self.licence}; unpack it yourself and set data.path"
        )

    def __str__(self) -> str:
        facts = {
            "get it from": self.where,
            "licence": self.licence,
            "data.path": self.unpack and f"the folder that holds {self.unpack}",
            "contents": self.holds,
            "split": self.split,
        }
        lines = [f"  {name:<13} {fact}" for name, fact in facts.items() if fact]
        return "\n".join([f"data.source={self.name}: {self.title}", *lines])
