"""Published weights, read from a file or an installed package, put into a network.

Nothing is downloaded, and nothing in a file runs.
"""

import importlib.util
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from covjax.errors import InputError, install_command
from covjax.models import list_models, model_class
from covjax.models.reference import PublishedClassifier
from covjax.ops.checks import check_name, shown
from covjax.pretrained.convert import (
    FIRST,
    match_state,
    name_of,
    reference_of,
    reference_shapes,
)
from covjax.pretrained.files import read_weights
from covjax.pretrained.misfit import check_match, outline
from covjax.pretrained.spellings import respelled
from covjax.pretrained.unpickle import Unreadable

PACKAGE = "package"


def load_pretrained(
    model: nn.Module,
    variables: Any,
    source: str | Path,
    *,
    skip: Sequence[str] = (),
    first: str = "sum",
    constant: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Returns `variables` with a file's weights in them, and a record, for JSON, of what was done.

    A head of another number of classes stays as initialised; all else must be there, and fit,
    unless skipped. Of a segmentation network this holds for the encoder, which takes the weights of
    a classifier.

    Args:
      model: a network of `covjax.models` that has published weights.
      variables: {"params", "batch_stats"} as `model.init` returned them.
      source: a weight file (.safetensors, .pth of torch.save in any of its forms, Keras .h5 for
        xception), or "package": the one that an extra of covjax installs.
      skip: patterns, as of file names, for names in the file's own (PyTorch) spelling that are left
        as initialised.
      first: what becomes of the first convolution when `variables` take other than the weights'
        three channels: "sum" adds its kernels up for one channel, "fresh" leaves it as initialised.
      constant: `variables` take one grey channel and a constant 1, as
        `covjax.preprocess.network_input` gives them with one channel and normalize="pretrained":
        then "sum" folds the colours' mean and std into the kernels, and the network returns of a
        grey slice what it returns of three equal channels. Without it, kernels that are added up
        are right where the three colours have one mean and std.

    The record has "file", "sha256", "loaded" (how many), and by name "skipped", "replaced" (of the
    head and the first convolution), "unused" (of layers that the network is built without),
    "summed"; "network" is the one that the weights are of, "fresh" the network's parts that these
    do not have, as initialised; "input" is what the weights expect: mean and std per channel (red,
    green, blue) of values 0..1, and side.

    Raises InputError, naming the file, if it cannot be read or does not fit, and for any other
    argument that is none.
    """
    _check_arguments(model, source, skip, first)
    reference = reference_of(model)
    network = name_of(reference)
    path = packaged(reference) if str(source) == PACKAGE else Path(source)
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise InputError("variables: no 'params', give what model.init returned")
    known = {} if reference is model else reference_shapes(*outline(network))
    shapes = known.values() if known else map(jnp.shape, jax.tree.leaves(variables))
    file = read_weights(path, sum(map(math.prod, shapes)))
    try:
        if file.form == "keras" and getattr(model, "padding", "keras") != "keras":
            raise Unreadable(
                f"weights of Keras, whose {network} pads its own way; "
                "set the model's padding to keras"
            )
        state = respelled(file.state)
        converted, match = match_state(
            model, state, variables, skip=skip, first=first, known=known, constant=constant
        )
        part = network if reference is model else f"the encoder of {name_of(model)}, {network}"
        check_match(match, skip, part, network, state)
    except Unreadable as error:
        raise InputError(f"{path}: {error}") from error.__cause__
    return converted, {
        "file": path.name,
        "sha256": file.sha256,
        "network": network,
        "loaded": len(match.loaded),
        "fresh": match.fresh,
        "skipped": match.skipped,
        "replaced": match.replaced,
        "unused": match.unused,
        "summed": match.summed,
        "input": reference.pretrained_input._asdict(),
    }


def _check_arguments(model: Any, source: Any, skip: Any, first: Any) -> None:
    check_name("first", first, FIRST)
    if not isinstance(model, nn.Module):
        raise InputError(f"model: {shown(model)}, give a network as create_model returns it")
    if not isinstance(source, str | os.PathLike):
        raise InputError(f"source: {shown(source)}, give the path of a weight file, or '{PACKAGE}'")
    if isinstance(skip, str) or not all(isinstance(pattern, str) for pattern in skip):
        raise InputError(f"skip: {shown(skip)}, give a list of patterns")


def packaged(model: PublishedClassifier) -> Path:
    """Returns the weight file of an installed package, without importing the package.

    Raises InputError if there is none for the network, or it is not installed.
    """
    if model.package is None:
        others = [name for name in list_models() if getattr(model_class(name), "package", None)]
        raise InputError(
            f"model {name_of(model)}: no package holds its weights, "
            f"only those of {', '.join(others)}; name a file"
        )
    package, extra = model.package
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec is not None else None
    files = [path for folder in folders or () for path in sorted(Path(folder).rglob("*.pth"))]
    if len(files) != 1:
        raise InputError(
            f"model {name_of(model)}: its weights come in a package that is not installed: "
            + install_command(extra)
        )
    return files[0]
