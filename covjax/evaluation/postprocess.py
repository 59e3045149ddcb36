"""Cleaning predicted masks on the host."""

import numpy as np
from scipy import ndimage

from covjax.data.label_map import IGNORE
from covjax.errors import InputError

# 8-connected in each mask, never from one mask to the next.
_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


def remove_small(masks: np.ndarray, min_size: int) -> np.ndarray:
    """Sets components of fewer than `min_size` pixels to background.

    A component is a set of infected pixels, of whatever classes, that touch by a side or a corner
    (8-connected).

    Args:
      masks: uint8 [N, H, W], 0 background, 1 or more infected.
      min_size: pixels; 0 and 1 change nothing.

    Returns:
      uint8 [N, H, W].

    Raises:
      InputError: masks are not [N, H, W] or hold 255, ignored pixels.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or (masks == IGNORE).any():
        raise InputError(
            f"masks: shape {masks.shape}, give [N, H, W] of predicted classes, from 0 and 1 on"
        )
    components, _ = ndimage.label(masks > 0, _NEIGHBOURS)
    keep = np.bincount(components.ravel()) >= min_size
    keep[0] = False
    return np.where(keep[components], masks, 0).astype(np.uint8)
