"""Cleaning predicted masks on the host."""

import numpy as np
from scipy import ndimage

from covjax.errors import InputError

# 8-connected in each mask, never from one mask to the next.
_NEIGHBOURS = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


def remove_small(masks: np.ndarray, min_size: int) -> np.ndarray:
    """Sets components of fewer than `min_size` pixels to background.

    A component is a set of infected pixels that touch by a side or a corner (8-connected).

    Args:
      masks: uint8 [N, H, W] of 0 and 1.
      min_size: pixels; 0 and 1 change nothing.

    Returns:
      uint8 [N, H, W].

    Raises:
      InputError: masks are not [N, H, W] or hold other values.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or (masks > 1).any():
        raise InputError(f"masks: shape {masks.shape}, give [N, H, W] of 0 and 1")
    components, _ = ndimage.label(masks, _NEIGHBOURS)
    keep = np.bincount(components.ravel()) >= min_size
    keep[0] = False
    return keep[components].astype(np.uint8)
