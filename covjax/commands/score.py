"""Scores masks or probabilities of any tool against the truth.

  covjax score TRUTH PREDICTED --output OUT
      folders of masks of the same names: pictures, or NIfTI volumes
  covjax score TRUTH.csv PREDICTED.csv --output OUT
      id, label and patient; id and probability of infection

OUT holds scores with intervals and a page, as a run does; covjax compare takes
several and tests their differences.
"""

from pathlib import Path

from absl import flags

from covjax.commands import cli
from covjax.commands.evaluate import show
from covjax.commands.shared_flags import define_output, read_paths

FLAGS = cli.new_flags()
_OUTPUT = define_output(FLAGS, "Folder for the scores, empty or not there.")
_PATIENT_PATTERN = flags.DEFINE_string(
    "patient_pattern",
    "",
    "Regular expression that finds the patient in the name of a mask.",
    flag_values=FLAGS,
)
_MASK_THRESHOLD = flags.DEFINE_integer(
    "mask_threshold",
    0,
    "Above 0: a mask pixel above it is infected (masks saved as JPEG: 127).",
    lower_bound=0,
    upper_bound=254,
    flag_values=FLAGS,
)
_CLASSES = flags.DEFINE_string(
    "classes", "", "What values of masks mean, as data.classes.", flag_values=FLAGS
)
_THRESHOLD = flags.DEFINE_float(
    "threshold",
    0.5,
    "Probability from which a slice is called infected.",
    flag_values=FLAGS,
)
OF_MASKS = ("patient_pattern", "mask_threshold", "classes")
OF_CALLS = ("threshold",)


def score(*paths: str) -> None:
    from covjax.runs.score import score_calls, score_masks

    if len(paths) != 2:
        raise flags.Error("name two: TRUTH and PREDICTED, see --help")
    truth, predicted = read_paths(paths)
    output = cli.given(_OUTPUT)
    tables = [_is_table(path) for path in (truth, predicted)]
    if len(set(tables)) > 1:
        raise flags.Error("TRUTH and PREDICTED must be both folders or both CSV, see --help")
    for name in OF_MASKS if tables[0] else OF_CALLS:
        if FLAGS[name].present:
            raise flags.Error(f"--{name} is of {'masks' if tables[0] else 'CSV'}, leave it out")
    if tables[0]:
        score_calls(truth, predicted, output, threshold=_THRESHOLD.value)
    else:
        score_masks(
            truth, predicted, output, patient_pattern=_PATIENT_PATTERN.value,
            mask_threshold=_MASK_THRESHOLD.value, classes=_CLASSES.value,
        )  # fmt: skip
    show(output)


def _is_table(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def main() -> None:
    cli.run(score, FLAGS, __doc__, required=("output",), operands=None)
