"""What is said of weights that do not fit: what differs, and the network they seem to be of."""

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from covjax.models import create_model, list_models, model_class
from covjax.models.reference import PublishedClassifier
from covjax.pretrained.convert import Match, reference_of, reference_shapes
from covjax.pretrained.unpickle import Unreadable

LISTED = 10  # differences named in one line
# share of names and shapes, of all, that another network must have in common to be named
ALIKE = 0.5


def check_match(
    match: Match, skip: Sequence[str], part: str, name: str, state: Mapping[str, np.ndarray]
) -> None:
    """Raises Unreadable unless weights fit, and every pattern to skip was of use.

    Args:
      match, skip, state: of `match_state`.
      part: what takes the weights; `name` is the network that they are of.

    The whole list of differences is the error's cause, shown with the traceback of --debug.
    """
    if not match.fits:
        reason, full = misfit(part, name, match, state)
        raise Unreadable(reason) from ValueError(full)
    if not match.loaded:
        raise Unreadable(
            "all its weights are skipped, give patterns that match less, or train from scratch"
        )
    for pattern in skip:
        if not any(fnmatchcase(key, pattern) for key in match.skipped):
            raise Unreadable(
                f"the pattern '{pattern}' skips nothing, names in it are like {match.loaded[0]}"
            )


def misfit(part: str, name: str, match: Match, state: Mapping[str, np.ndarray]) -> tuple[str, str]:
    """Returns one line on how weights differ and what they seem to be, and all differences."""
    kinds = {
        "missing (-)": match.missing,
        "left over (+)": match.left_over,
        "of another shape (~)": match.misshapen,
    }
    counts = ", ".join(f"{len(entries)} {kind}" for kind, entries in kinds.items() if entries)
    full = [kind[-2] + ascii(entry)[1:-1] for kind, entries in kinds.items() for entry in entries]
    more = f" and {len(full) - LISTED} more (see --debug)" if len(full) > LISTED else ""
    if prefix := _prefix(match.missing[:LISTED], state):
        remedy = f"its names begin with '{prefix}', save them without"
    elif (other := resembled(state)) not in (None, name):
        remedy = f"it looks like weights of {other}"
    else:
        remedy = "use weights of this network, or name what to skip"
    line = f"does not fit {part}, {remedy}: {counts}: {', '.join(full[:LISTED])}{more}"
    return line, ", ".join(full)


def _prefix(missing: Sequence[str], state: Mapping[str, np.ndarray]) -> str:
    """Returns what stands in a file before most of these names; "" if there is no such prefix."""
    prefixes = Counter(
        key.removesuffix(name) for name in missing for key in state if key.endswith(f".{name}")
    )
    prefix, count = max(prefixes.items(), key=lambda item: item[1], default=("", 0))
    return ascii(prefix)[1:-1] if 2 * count > len(missing) else ""


def resembled(state: Mapping[str, np.ndarray]) -> str | None:
    """Returns the network with most names and shapes in common, if it has most of them."""
    networks = {name: model_class(name) for name in list_models("classification")}
    classes = {name: c for name, c in networks.items() if issubclass(c, PublishedClassifier)}
    # To trace a network takes a second or so; most are recognised by the name of the last layer.
    alike = [
        name
        for name in classes
        if classes[name].reference_key((classes[name].head[-1], "kernel")) in state
    ]
    here = {(key, array.shape) for key, array in state.items()}
    best = ALIKE
    found = None
    for name in alike or classes:
        shapes = set(reference_shapes(*outline(name)).items())
        share = len(here & shapes) / len(here | shapes)
        if share > best:
            best = share
            found = name
    return found


@cache
def outline(name: str) -> tuple[PublishedClassifier, Any]:
    """Returns a network with three channels and 1000 classes, and the shapes of its variables."""
    model = reference_of(create_model(name, num_classes=1000))
    x = jax.ShapeDtypeStruct(
        (1, model.pretrained_input.size, model.pretrained_input.size, 3), jnp.float32
    )
    variables = jax.eval_shape(model.init, jax.random.PRNGKey(0), x)
    return model, {kind: variables[kind] for kind in ("params", "batch_stats") if kind in variables}
