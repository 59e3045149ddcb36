"""Flags that several commands have, each worded once."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from absl import flags

from covjax.data.formats.deep_pictures import BITS
from covjax.data.formats.hounsfield import INTENSITIES


class _PathParser(flags.ArgumentParser[Path]):
    """Reads the value of a flag that names a file or folder."""

    def parse(self, argument: str) -> Path:
        return read_path(argument)

    def flag_type(self) -> str:
        return "path"


def read_path(text: str) -> Path:
    """Returns a path that a user wrote, ~ expanded. Raises ValueError if it is empty."""
    if not text.strip():
        raise ValueError("empty, name a file or folder")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{text} has no home folder, write the path in full") from error


def read_paths(words: Sequence[str]) -> list[Path]:
    """Returns the paths among the words of a command. Raises flags.Error if one is empty."""
    try:
        return [read_path(word) for word in words]
    except ValueError as error:
        raise flags.Error(f"'{' '.join(words)}': {error}") from error


def define_path(
    own: flags.FlagValues, name: str, help: str, default: str | None = None
) -> flags.FlagHolder[Path | None]:
    """Adds a flag that names a file or folder."""
    holder = flags.DEFINE(_PathParser(), name, default, help, flag_values=own)
    return cast("flags.FlagHolder[Path | None]", holder)


def define_workdir(
    own: flags.FlagValues, help: str = "Folder of a trained run."
) -> flags.FlagHolder[Path | None]:
    """Adds --workdir."""
    return define_path(own, "workdir", help)


def define_data_path(own: flags.FlagValues) -> flags.FlagHolder[Path | None]:
    """Adds --data_path."""
    return define_path(
        own, "data_path", "Folder of the run's slices, if it is no longer that of data.path."
    )


def define_output(own: flags.FlagValues, help: str) -> flags.FlagHolder[Path | None]:
    """Adds --output."""
    return define_path(own, "output", help)


def define_split(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --split."""
    return flags.DEFINE_string(
        "split", "test", "Split of the data: train, val or test.", flag_values=own
    )


def define_batch_size(own: flags.FlagValues) -> flags.FlagHolder[int | None]:
    """Adds --batch_size."""
    return flags.DEFINE_integer(
        "batch_size",
        None,
        "Slices per batch; as in training if not given.",
        lower_bound=1,
        flag_values=own,
    )


def define_tta(own: flags.FlagValues) -> flags.FlagHolder[list[str]]:
    """Adds --tta."""
    return flags.DEFINE_list(
        "tta",
        [],
        "Average over mirror images (flips), sizes (scales) or both (flips,scales).",
        flag_values=own,
    )


def define_min_size(own: flags.FlagValues) -> flags.FlagHolder[int]:
    """Adds --min_size."""
    return flags.DEFINE_integer(
        "min_size",
        0,
        "Drop components of a mask of fewer pixels of the slice.",
        flag_values=own,
    )


def define_window(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --window."""
    return flags.DEFINE_string(
        "window",
        "",
        "Of slices unlike those trained on: lung, mediastinum or CENTRE,WIDTH for HU, as_is for "
        "8-bit.",
        flag_values=own,
    )


def define_intensity(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --intensity."""
    return flags.DEFINE_enum(
        "intensity",
        "auto",
        list(INTENSITIES),
        "What the values of scans and 16-bit pictures are.",
        flag_values=own,
    )


def define_bits(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --bits."""
    return flags.DEFINE_enum(
        "bits",
        "0",
        [str(bits) for bits in BITS],
        "Bits of grey levels in 16-bit pictures; 0: as many as the file has.",
        flag_values=own,
    )


def define_max_minutes(own: flags.FlagValues) -> flags.FlagHolder[float | None]:
    """Adds --max_minutes."""
    return flags.DEFINE_float(
        "max_minutes",
        None,
        "Save and stop after so long, with status 75; the same command goes on.",
        lower_bound=0.0,
        flag_values=own,
    )


def define_progress(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --progress."""
    return flags.DEFINE_enum(
        "progress",
        "bar",
        ["bar", "json"],
        "json: a line of JSON on stdout for each event, all else on stderr.",
        flag_values=own,
    )
