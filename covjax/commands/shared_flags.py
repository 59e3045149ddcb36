"""Flags that several commands have, each worded once."""

from absl import flags

from covjax.data.formats.deep_pictures import BITS
from covjax.data.formats.hounsfield import INTENSITIES


def define_workdir(
    own: flags.FlagValues, help: str = "Folder of a trained run."
) -> flags.FlagHolder[str | None]:
    """Adds --workdir."""
    return flags.DEFINE_string("workdir", None, help, flag_values=own)


def define_output(own: flags.FlagValues, help: str) -> flags.FlagHolder[str | None]:
    """Adds --output."""
    return flags.DEFINE_string("output", None, help, flag_values=own)


def define_split(own: flags.FlagValues) -> flags.FlagHolder[str]:
    """Adds --split."""
    return flags.DEFINE_string(
        "split", "test", "Part of the data: train, val or test.", flag_values=own
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
