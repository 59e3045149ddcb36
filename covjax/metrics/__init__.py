"""Scores as formulas over mergeable counts: counts on the device, scores in float64 on the host."""

from covjax.metrics.calibration import fit_temperature
from covjax.metrics.classification import classification_scores, threshold_table
from covjax.metrics.counts import confusion_matrix
from covjax.metrics.curves import precision_recall_curve, roc_curve
from covjax.metrics.intervals import hanley_mcneil, score, wilson
from covjax.metrics.masks import mask_scores
from covjax.metrics.paired import holm, mcnemar, paired_test
from covjax.metrics.resampling import bootstrap, mean_of
from covjax.metrics.roc_area import delong, delong_test
from covjax.metrics.segmentation import (
    infected_or_not,
    infection_scores,
    per_image_dice,
    per_image_iou,
    segmentation_scores,
    surface_summary,
)
from covjax.metrics.surface import bf_score, surface_scores
from covjax.metrics.thresholds import choose_threshold

# Version of the definitions of all scores; it goes up whenever a score of the same predictions
# changes. 2: boundary and calibration scores added; intervals resample patients, DeLong in place of
# Hanley-McNeil. 3: ranks and losses from log-odds; t intervals over patients; overlap and outlines
# of the delivered mask, in each slice's own size, distances in mm where known.
DEFINITIONS = 3

__all__ = [
    "DEFINITIONS",
    "bf_score",
    "bootstrap",
    "choose_threshold",
    "classification_scores",
    "confusion_matrix",
    "delong",
    "delong_test",
    "fit_temperature",
    "hanley_mcneil",
    "holm",
    "infected_or_not",
    "infection_scores",
    "mask_scores",
    "mcnemar",
    "mean_of",
    "paired_test",
    "per_image_dice",
    "per_image_iou",
    "precision_recall_curve",
    "roc_curve",
    "score",
    "segmentation_scores",
    "surface_scores",
    "surface_summary",
    "threshold_table",
    "wilson",
]
