"""Boundary scores the plain way: a distance transform per image and class."""

import math

import numpy as np
from scipy import ndimage


def surface_scores(truth, predicted, num_classes=2, ignore=255, tolerance=2.0):
    names = ("bf_score", "hd95", "assd", "nsd")
    scores = {name: np.full((len(truth), num_classes), np.nan) for name in names}
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        for cls in range(num_classes):
            values = one_class((t == cls) & (t != ignore), (p == cls) & (t != ignore), tolerance)
            for name, value in zip(names, values, strict=True):
                scores[name][i, cls] = value
    return scores


def one_class(truth, predicted, tolerance):
    diagonal = math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2)
    if not truth.any() and not predicted.any():
        return [math.nan] * 4
    if not truth.any():
        return math.nan, diagonal, diagonal, 0.0
    if not predicted.any():
        return 0.0, diagonal, diagonal, 0.0
    there = boundary(truth)
    found = boundary(predicted)
    recalled = ndimage.distance_transform_edt(~found)[there]
    precise = ndimage.distance_transform_edt(~there)[found]
    precision, recall = (np.mean(d < 0.0075 * diagonal) for d in (precise, recalled))
    bf = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    hd95 = max(np.percentile(recalled, 95), np.percentile(precise, 95))
    assd = (recalled.sum() + precise.sum()) / (recalled.size + precise.size)
    nsd = (np.sum(recalled <= tolerance) + np.sum(precise <= tolerance)) / (
        recalled.size + precise.size
    )
    return bf, hd95, assd, nsd


def boundary(mask):
    cross = ndimage.generate_binary_structure(2, 1)
    return mask & ~ndimage.binary_erosion(mask, cross, border_value=0)
