"""Scores as formulas over mergeable counts: counts on the device, scores in float64 on the host.

Names are imported when they are first used: the registry of scores is read without jax or scipy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from covjax.metrics.registry import DEFINITIONS

if TYPE_CHECKING:
    from covjax.metrics.calibration import fit_temperature
    from covjax.metrics.calls import threshold_table
    from covjax.metrics.classification import classification_scores
    from covjax.metrics.counts import confusion_matrix
    from covjax.metrics.curves import precision_recall_curve, roc_curve
    from covjax.metrics.intervals import hanley_mcneil, score, wilson
    from covjax.metrics.masks import mask_scores
    from covjax.metrics.outlines import surface_summary
    from covjax.metrics.paired import holm, mcnemar, paired_test
    from covjax.metrics.resampling import bootstrap, mean_of
    from covjax.metrics.roc_area import delong, delong_test
    from covjax.metrics.segmentation import (
        infected_or_not,
        infection_scores,
        per_image_dice,
        per_image_iou,
        segmentation_scores,
    )
    from covjax.metrics.surface import bf_score, surface_scores
    from covjax.metrics.thresholds import choose_threshold

_MODULES = {
    "calibration": ("fit_temperature",),
    "calls": ("threshold_table",),
    "classification": ("classification_scores",),
    "counts": ("confusion_matrix",),
    "curves": ("precision_recall_curve", "roc_curve"),
    "intervals": ("hanley_mcneil", "score", "wilson"),
    "masks": ("mask_scores",),
    "outlines": ("surface_summary",),
    "paired": ("holm", "mcnemar", "paired_test"),
    "resampling": ("bootstrap", "mean_of"),
    "roc_area": ("delong", "delong_test"),
    "segmentation": (
        "infected_or_not",
        "infection_scores",
        "per_image_dice",
        "per_image_iou",
        "segmentation_scores",
    ),
    "surface": ("bf_score", "surface_scores"),
    "thresholds": ("choose_threshold",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

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


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'covjax.metrics' has no attribute '{name}'")
    return getattr(import_module(f"covjax.metrics.{_MODULE_OF[name]}"), name)
