"""Scores as formulas over mergeable counts: counts on the device, scores in float64 on the host."""

from covjax.metrics.classification import classification_scores
from covjax.metrics.counts import confusion_matrix
from covjax.metrics.curves import precision_recall_curve, roc_curve
from covjax.metrics.intervals import hanley_mcneil, score, wilson
from covjax.metrics.segmentation import per_image_dice, per_image_iou, segmentation_scores

# Version of the definitions of all scores; it goes up whenever a score of the same predictions changes.
DEFINITIONS = 1

__all__ = [
    "DEFINITIONS",
    "classification_scores",
    "confusion_matrix",
    "hanley_mcneil",
    "per_image_dice",
    "per_image_iou",
    "precision_recall_curve",
    "roc_curve",
    "score",
    "segmentation_scores",
    "wilson",
]
