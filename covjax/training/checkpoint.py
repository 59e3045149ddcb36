"""Checkpoints, latest and best, written whole and without waiting for the disk.

Every checkpoint carries a digest of its arrays, so that damage is noticed and never trained on or
evaluated.
"""

import hashlib
import json
import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.sharding import SingleDeviceSharding

from covjax.errors import RunError
from covjax.parallel import replicate

KEEP = 2  # the newest, and the one before it in case the newest is damaged

logging.getLogger("orbax").setLevel(logging.ERROR)


class Checkpoints:
    """A folder of checkpoints of one kind ("latest" or "best"), the newest few kept.

    Only a training opens it with `write`: a reader must not tidy away what a training at the
    same time is just writing. `statistics` is the digest of those that the network sees its slices
    by: checkpoints are of these alone.
    """

    def __init__(self, folder: Path, *, write: bool = False, statistics: str = ""):
        self.folder = folder
        self._write = write
        self._statistics = statistics
        keep = KEEP if write else None
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=write, create=write
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, step: int, tree: Any, info: dict[str, Any]) -> None:
        """Starts writing a checkpoint; keeps one of this step, because a replay gives the same."""
        if step in self._manager.all_steps():
            return
        tree = jax.device_get(tree)
        info = info | {"statistics": self._statistics}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_packed(tree)),
            info=ocp.args.JsonSave(info | {"digest": digest(tree, info)}),
        )
        self._manager.save(step, args=items)

    def restore(self, template: Any) -> tuple[Any, dict[str, Any]] | None:
        """Returns (tree, info) of the newest intact checkpoint, or None if none was ever written.

        Of the arrays of `template` only shapes and types matter: jax.ShapeDtypeStruct will do. A
        damaged one is named and passed over; a training then deletes it, to write it again. Raises
        RunError if all are damaged, and deletes none, or if it is of other statistics.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            tree, info, problem = self._read(step, template)
            if problem is None:
                if info.pop("statistics", None) != self._statistics:
                    raise RunError(
                        f"{self.path(step)}: trained with other statistics than those in "
                        f"statistics_{self.folder.parent.name}.json, restore that file"
                    )
                for damaged in steps[: steps.index(step)] if self._write else ():
                    self._manager.delete(damaged)
                return replicate(tree), info
            absl_logging.warning(
                "%s: damaged checkpoint (%s), going back to the one before",
                self.path(step),
                problem,
            )
        if steps:
            raise RunError(
                f"{self.folder}: every checkpoint is damaged, restore one or delete "
                f"{self.folder.parent} to train anew"
            )
        return None

    def path(self, step: int) -> Path:
        return self.folder / str(step)

    def newest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._manager.latest_step()

    def wait(self) -> None:
        """Blocks until everything is written."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def _read(self, step: int, template: Any) -> tuple[Any, Any, str | None]:
        place = SingleDeviceSharding(jax.local_devices()[0])
        sizes = Counter[str]()
        for leaf in jax.tree.leaves(template):
            sizes[str(leaf.dtype)] += math.prod(leaf.shape)
        shapes = {
            name: jax.ShapeDtypeStruct((size,), name, sharding=place)
            for name, size in sizes.items()
        }
        try:
            items = ocp.args.Composite(
                state=ocp.args.StandardRestore(shapes), info=ocp.args.JsonRestore()
            )
            restored = self._manager.restore(step, args=items)
            tree = _unpacked(jax.device_get(restored["state"]), template)
        # Damage shows itself as almost any exception, depending on which byte of which file it hit.
        except Exception as error:
            return None, None, (str(error).splitlines() or [type(error).__name__])[0][:200]
        info = dict(restored["info"])
        intact = info.pop("digest", None) == digest(tree, info)
        problem = None if intact else "its content changed on disk"
        return tree, info, problem


def _packed(tree: Any) -> dict[str, np.ndarray]:
    """Returns all arrays of one type as one, [values], copied, by the name of the type.

    Copied, because the next step donates the buffers while the writer may still be reading them.
    Few arrays, because each takes a file operation, and some memory that tensorstore never frees.
    """
    flat: dict[str, list[np.ndarray]] = {}
    for leaf in jax.tree.leaves(tree):
        flat.setdefault(str(leaf.dtype), []).append(np.ravel(leaf))
    return {name: np.concatenate(parts) for name, parts in flat.items()}


def _unpacked(arrays: dict[str, np.ndarray], template: Any) -> Any:
    """Returns the tree that `_packed` was given, of the shapes and types of `template`."""
    leaves, structure = jax.tree.flatten(template)
    start = Counter[str]()
    found: list[np.ndarray] = []
    for leaf in leaves:
        name = str(leaf.dtype)
        stop = start[name] + math.prod(leaf.shape)
        found.append(arrays[name][start[name] : stop].reshape(leaf.shape))
        start[name] = stop
    return jax.tree.unflatten(structure, found)


def digest(tree: Any, info: dict[str, Any]) -> str:
    """Returns a hash of `info` and of every array's shape and bytes."""
    sums = hashlib.blake2b(json.dumps(info, sort_keys=True).encode(), digest_size=16)
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        sums.update(str(leaf.shape).encode())
        sums.update(np.ascontiguousarray(leaf).tobytes())
    return sums.hexdigest()
