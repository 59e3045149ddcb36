"""A trained run as one function of slices: stage 1 calls slices infected, stage 2 segments those.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from covjax.config import read_config, stage_names
from covjax.data.loader import pad_batch, resize
from covjax.data.lungs import Box, lung_box
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.predict import collect, make_predictor
from covjax.framework.evaluate import check_asked
from covjax.framework.trained import load_trained
from covjax.inputs import slice_size
from covjax.parallel import round_up
from covjax.stages import Stage

CHUNK = 8  # batches screened together, so that stage 2 runs on full batches of the slices called infected
WHOLE = (slice(None), slice(None))


class Screened(NamedTuple):
    """What the framework says of one slice; probability is None without stage 1, mask and share without stage 2."""

    probability: float | None  # of infection
    infected: bool  # called infected
    mask: np.ndarray | None  # uint8 [H, W] of 0 and 1 (or more: Screener.classes), in the slice's own size
    share: float | None  # infected pixels / all pixels of the slice


class Screener:
    """A trained run, ready to screen slices: `Screener.from_workdir(path).screen(images)`."""

    def __init__(
        self, stages: dict[str, Stage], variables: dict[str, Any], batch_size: int | None = None,
        options: Options = PLAIN, lung_crop: bool = False,
    ):  # fmt: skip
        """Takes stages ("classifier", "segmenter", or one of them) and the variables of each, by the same names.

        With `lung_crop` the networks see slices cropped to the lungs, as in training with data.lung_crop.
        """
        self.stages, self.variables, self.lung_crop = stages, variables, lung_crop
        self.batch_size = round_up(batch_size or next(iter(stages.values())).config.batch_size)
        self._predict = {name: make_predictor(stage, ("predicted",), options) for name, stage in stages.items()}

    @classmethod
    def from_workdir(cls, workdir: Path | str, batch_size: int | None = None, options: Options = PLAIN) -> "Screener":
        """Loads the best checkpoints of a finished run. Raises InputError or RunError if there are none."""
        workdir = Path(workdir)
        config = read_config(workdir)
        check_asked(stage_names(config), options)
        trained = {name: load_trained(name, config, workdir) for name in stage_names(config)}
        stages = {name: stage for name, (stage, _) in trained.items()}
        variables = {name: variables for name, (_, variables) in trained.items()}
        return cls(stages, variables, batch_size, options, config.data.lung_crop)

    def screen(self, images: Iterable[np.ndarray]) -> Iterator[Screened]:
        """Screens slices, each uint8 [H, W] of any size, in order and in constant memory."""
        source = iter(images)
        while chunk := list(islice(source, CHUNK * self.batch_size)):
            shapes = [image.shape for image in chunk]
            boxes = [lung_box(image) if self.lung_crop else WHOLE for image in chunk]
            chunk = [image[box] for image, box in zip(chunk, boxes, strict=True)]
            probability, called = [None] * len(chunk), np.ones(len(chunk), bool)
            if "classifier" in self.stages:
                probability = self._run("classifier", chunk, "probability").astype(float).tolist()
                called = self.stages["classifier"].calls(probability)
            masks = self._masks(chunk, called) if "segmenter" in self.stages else [None] * len(chunk)
            masks = [
                mask if mask is None else _placed(mask, box, shape)
                for mask, box, shape in zip(masks, boxes, shapes, strict=True)
            ]
            for p, infected, mask in zip(probability, called, masks, strict=True):
                share = None if mask is None else float((mask > 0).mean())
                yield Screened(p, bool(infected) if p is not None else bool(mask.any()), mask, share)

    def _masks(self, images: list[np.ndarray], called: np.ndarray) -> list[np.ndarray]:
        masks = [np.zeros_like(image) for image in images]
        chosen = np.flatnonzero(called)
        if len(chosen):
            predicted = self._run("segmenter", [images[i] for i in chosen], "predicted")
            for i, mask in zip(chosen, predicted, strict=True):
                masks[i] = resize(mask, images[i].shape, Image.Resampling.NEAREST)
        return masks

    def _run(self, name: str, images: list[np.ndarray], row: str) -> np.ndarray:
        config = self.stages[name].config
        size = slice_size(config.input)

        def batch(some):
            found = {
                "image": np.stack([resize(image, size, Image.Resampling.BILINEAR) for image in some]),
                "mask": np.zeros((len(some), *config.input.size), np.uint8),
                "label": np.zeros(len(some), np.int32),
            }
            return pad_batch(found, self.batch_size)

        batches = (batch(images[start : start + self.batch_size]) for start in range(0, len(images), self.batch_size))
        return collect(self._predict[name](self.variables[name], batches))[row]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of infection that masks keep apart, by their numbers from 1 on; () for infected or not."""
        classes = self.stages["segmenter"].task.classes[1:] if "segmenter" in self.stages else ()
        return classes if len(classes) > 1 else ()


def _placed(mask: np.ndarray, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Returns a mask of `shape` with that of a crop in its place."""
    whole = np.zeros(shape, mask.dtype)
    whole[box] = mask
    return whole
