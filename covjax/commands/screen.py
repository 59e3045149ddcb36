"""Screens new scans and pictures with a trained run: masks, extent, pages.

covjax screen --workdir runs/NAME --input PATH --output OUT
"""

from absl import flags

from covjax.commands import cli
from covjax.commands.shared_flags import (
    define_batch_size,
    define_bits,
    define_intensity,
    define_max_minutes,
    define_min_size,
    define_output,
    define_path,
    define_progress,
    define_tta,
    define_window,
    define_workdir,
)
from covjax.evaluation.options import make_options
from covjax.screening.choices import MASKS, ON_ERROR

FLAGS = cli.new_flags()
_WORKDIR = define_workdir(FLAGS)
_INPUT = define_path(
    FLAGS, "input", "A scan (NIfTI, DICOM, DICOMDIR), a picture, or a folder of any of them."
)
_OUTPUT = define_output(FLAGS, "Folder for the results, empty or not there.")
_WINDOW = define_window(FLAGS)
_INTENSITY = define_intensity(FLAGS)
_BITS = define_bits(FLAGS)
_ON_ERROR = flags.DEFINE_enum(
    "on_error",
    "stop",
    list(ON_ERROR),
    "At a file that cannot be used: stop, or skip it.",
    flag_values=FLAGS,
)
_MASKS = flags.DEFINE_enum(
    "masks",
    "nifti",
    list(MASKS),
    "Of scans: nifti; dicom_seg, of DICOM scans, holds the patient's name as they do.",
    flag_values=FLAGS,
)
_BATCH_SIZE = define_batch_size(FLAGS)
_TTA = define_tta(FLAGS)
_MIN_SIZE = define_min_size(FLAGS)
define_max_minutes(FLAGS)
define_progress(FLAGS)


def screen() -> None:
    from covjax.report import build_screening
    from covjax.runtime import use_xla_flags
    from covjax.screening.screen import screen as screening
    from covjax.settings import load_settings

    workdir = cli.given(_WORKDIR)
    output = cli.given(_OUTPUT)
    options = make_options(_TTA.value, _MIN_SIZE.value)
    use_xla_flags(load_settings(workdir).xla_flags)
    found = screening(
        workdir,
        cli.given(_INPUT),
        output,
        _BATCH_SIZE.value,
        options,
        window=_WINDOW.value,
        intensity=_INTENSITY.value,
        bits=int(_BITS.value),
        on_error=_ON_ERROR.value,
        masks=_MASKS.value,
    )
    print(found)
    print(f"page: {build_screening(output)}")


def main() -> None:
    cli.run(screen, FLAGS, __doc__, required=("workdir", "input", "output"))
