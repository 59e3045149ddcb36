"""Runs a command of covjax as the pages write it, but with a small budget for training.

Fields are added to the command line, so what the pages say still has to be right:
one epoch of few small slices, one seed and one fold of two variants of a study.
"""

import re
import runpy
import sys

from covjax.commands.config_flag import config_file

SMALL_PHANTOM = "patients=10", "slices_per_patient=5", "size=64"
SIDE = "(64,64)"
TRAINED_LARGER = ("efficientnet_lite0", "resnet18")  # classifiers with a least or published size


def added(words: list[str]) -> list[str]:
    """Returns the flags that make the training of a command small; none if it trains nothing."""
    file = _value(words, "config")
    if file is None:
        return []
    path, _, argument = config_file(file).partition(":")
    get_config = runpy.run_path(path)["get_config"]
    config = get_config(argument) if argument else get_config()
    fields = [f"data.phantom.{field}" for field in SMALL_PHANTOM]
    for stage in ("classifier", "segmenter"):
        if stage in config:
            fields += [f"{stage}.epochs=1", f"{stage}.batch_size=4"]
    if "classifier" in config:
        side = "(82,82)" if config.classifier.model.name in TRAINED_LARGER else "(48,48)"
        fields += [f"classifier.input.size={side}", f"classifier.input.slice_size={SIDE}"]
    if "segmenter" in config:
        fields += [f"segmenter.input.size={SIDE}", f"segmenter.input.slice_size={SIDE}"]
    if "study" in config:
        only = _value(words, "config.study.only") or ",".join(config.study.variants)
        fields += ["study.seeds=(0,)"]
        if _value(words, "config.study.vary") is None:
            fields += [f"study.only={','.join(only.split(',')[:2])}"]
        folds = int(_value(words, "config.split.folds") or config.split.folds)
        fields += ["study.folds=(0,)"] if folds else []
    return [f"--config.{field}" for field in fields]


def _value(words: list[str], flag: str) -> str | None:
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == f"--{flag}":
            return following
        if match := re.match(rf"--{re.escape(flag)}=(.*)", word, re.S):
            return match[1]
    return None


def main() -> None:
    name, *words = sys.argv[1:]
    sys.argv = [f"covjax {name}", *words, *added(words)]
    from covjax.commands import cli

    cli.run_command(name, sys.argv)


if __name__ == "__main__":
    main()
