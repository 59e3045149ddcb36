"""A trained run as one function of slices: stage 1 calls slices infected, stage 2 segments those.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep Convolutional Neural
Networks", arXiv:2009.08864.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image
from scipy.special import expit

from covjax.config import read_config, stage_names
from covjax.data.loader import pad_batch
from covjax.data.lungs import Box, lung_box
from covjax.data.resizing import Shape, check_fits, padded, resize, scaled_shape, unpadded
from covjax.errors import InputError
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.predict import NotFinite, collect, make_predictor
from covjax.framework.calibrate import noted
from covjax.framework.evaluate import check_asked
from covjax.framework.slice_values import Window, slices_of, window_of
from covjax.framework.trained import load_trained
from covjax.inputs import size_field, slice_size
from covjax.parallel import replicate, round_up
from covjax.stages import Stage

CHUNK = 8  # batches screened together, so that stage 2 runs on full batches of the slices called infected
WHOLE = (slice(None), slice(None))
Spacing = tuple[float, ...] | None  # mm between rows and columns, and perhaps between slices before


class Screened(NamedTuple):
    """What the framework says of one slice; probability is None without stage 1, mask and share without stage 2."""

    probability: float | None  # of infection
    infected: bool  # called infected
    mask: np.ndarray | None  # uint8 [H, W] of 0 and 1 (or more: Screener.classes), in the slice's own size
    share: float | None  # infected pixels / all pixels of the slice


class _Seen(NamedTuple):
    """What the networks see of a slice, and the way back to it."""

    image: np.ndarray  # uint8, the box of the scaled slice
    box: Box
    scaled: Shape
    stored: Shape

    def back(self, mask: np.ndarray) -> np.ndarray:
        """Returns a mask of `image` as one of the slice as stored; what lies out of the box is 0."""
        whole = np.zeros(self.scaled, mask.dtype)
        whole[self.box] = mask
        return resize(whole, self.stored, Image.Resampling.NEAREST)


class Screener:
    """A trained run, ready to screen slices: `Screener.from_workdir(path).screen(images)`.

    It can be pickled, and so be sent to other processes; there it compiles anew.
    """

    def __init__(
        self, stages: dict[str, Stage], variables: dict[str, Any], batch_size: int | None = None,
        options: Options = PLAIN, lung_crop: bool = False, spacing: float = 0.0, bits: int = 16,
    ):  # fmt: skip
        """Takes stages ("classifier", "segmenter", or one of them) and the variables of each, by the same names.

        With `lung_crop` the networks see slices cropped to the lungs, as in training with data.lung_crop; with
        `spacing` above 0 at that many mm per pixel, as in training with data.spacing. `bits` is data.bits: those that
        16-bit picture files use. Raises InputError for a batch size that is no number of slices.
        """
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
            raise InputError(f"batch_size: {batch_size!r}, give a number of slices, 1 or more, or None")
        self.stages, self.variables, self.lung_crop, self.spacing = stages, variables, lung_crop, spacing
        self.bits, self.options = bits, options
        self.batch_size = round_up(batch_size or next(iter(stages.values())).config.batch_size)
        self._make_predictors()

    def _make_predictors(self) -> None:
        self._predict = {
            name: make_predictor(stage, ("predicted",), self.options) for name, stage in self.stages.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_predict"}
        return state | {"variables": jax.device_get(self.variables)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.variables = replicate(self.variables)
        self.batch_size = round_up(self.batch_size)  # of this process's devices
        self._make_predictors()

    @classmethod
    def from_workdir(cls, workdir: Path | str, batch_size: int | None = None, options: Options = PLAIN) -> "Screener":
        """Loads the best checkpoints of a finished run. Raises InputError or RunError if there are none."""
        workdir = Path(workdir)
        config = read_config(workdir)
        check_asked(stage_names(config), options)
        trained = {name: load_trained(name, config, workdir) for name in stage_names(config)}
        stages = {name: noted(stage, options.tta) for name, (stage, _) in trained.items()}
        variables = {name: variables for name, (_, variables) in trained.items()}
        data = config.data
        return cls(stages, variables, batch_size, options, data.lung_crop, data.spacing, data.bits)

    def screen(
        self, images: Any, spacing: Spacing = None, name: object = "images", *, window: Window = None
    ) -> Iterator[Screened]:
        """Screens slices of any size, in order and in constant memory.

        Args:
          images: an iterable of slices, a stack [N, H, W], or one slice. A slice is an array uint8 [H, W] or [H, W, 1],
            taken as it is; an array of any other integer or floating-point type in HU, with `window`; a Pillow image;
            or the path of a picture.
          spacing: mm between rows and columns, needed where the run was trained with data.spacing only.
          name: what errors call them.
          window: what brings HU to 0..255, as in training: "lung", "mediastinum", "centre,width" or the two numbers.

        Raises:
          InputError: a slice, named by its number, is nothing of this: has other axes, NaN, values 0..1, HU without
            `window` or values that are no HU; `spacing` is no such pair; or the run was trained with data.spacing, and
            that of the slices is not known or they do not fit.
          RunError: what a network returns is not finite: nothing is called.
        """
        window_of(window)
        _check_spacing(spacing)
        return self._screened(slices_of(images, name, window, self.bits), spacing, name)

    def _screened(self, source: Iterator[np.ndarray], spacing: Spacing, name: object) -> Iterator[Screened]:
        done = 0
        while chunk := [self._seen(image, spacing, name) for image in islice(source, CHUNK * self.batch_size)]:
            try:
                yield from self._screen_chunk(chunk)
            except NotFinite as error:
                raise error.of(f"{name}[{done + error.position}]") from None
            done += len(chunk)

    def _screen_chunk(self, chunk: list[_Seen]) -> Iterator[Screened]:
        probability, called = [None] * len(chunk), np.ones(len(chunk), bool)
        if "classifier" in self.stages:
            log_odds = self._run("classifier", chunk, "log_odds")
            probability, called = expit(log_odds).tolist(), self.stages["classifier"].calls(log_odds)
        masks = self._masks(chunk, called) if "segmenter" in self.stages else [None] * len(chunk)
        for p, infected, mask in zip(probability, called, masks, strict=True):
            share = None if mask is None else float((mask > 0).mean())
            yield Screened(p, bool(infected) if p is not None else bool(mask.any()), mask, share)

    def _seen(self, image: np.ndarray, spacing: Spacing, name: object) -> _Seen:
        stored = image.shape
        if self.spacing:
            size = scaled_shape(name, stored, spacing, self.spacing)
            image = resize(image, size, Image.Resampling.BILINEAR)
        box, scaled = lung_box(image) if self.lung_crop else WHOLE, image.shape
        for stage, which in self.stages.items() if self.spacing else ():
            settings = which.config.input
            field = f"{stage}.input.{size_field(settings)}"
            check_fits(name, image[box].shape, slice_size(settings), self.spacing, field)
        return _Seen(image[box], box, scaled, stored)

    def _masks(self, seen: list[_Seen], called: np.ndarray) -> list[np.ndarray]:
        masks = [np.zeros(one.stored, np.uint8) for one in seen]
        chosen = np.flatnonzero(called)
        if len(chosen):
            try:
                predicted = self._run("segmenter", [seen[i] for i in chosen], "predicted")
            except NotFinite as error:
                raise NotFinite(error.stage, int(chosen[error.position])) from None
            for i, mask in zip(chosen, predicted, strict=True):
                masks[i] = seen[i].back(self._unfitted(mask, seen[i].image.shape))
        return masks

    def _unfitted(self, mask: np.ndarray, shape: Shape) -> np.ndarray:
        """Returns a mask of the network's size as one of the picture that `_fitted` brought to it."""
        if not self.spacing:
            return resize(mask, shape, Image.Resampling.NEAREST)
        size = slice_size(self.stages["segmenter"].config.input)
        return unpadded(resize(mask, size, Image.Resampling.NEAREST), shape)

    def _fitted(self, image: np.ndarray, size: Shape) -> np.ndarray:
        return padded(image, size, 0) if self.spacing else resize(image, size, Image.Resampling.BILINEAR)

    def _run(self, name: str, seen: list[_Seen], row: str) -> np.ndarray:
        config = self.stages[name].config
        size = slice_size(config.input)

        def batch(some):
            found = {
                "image": np.stack([self._fitted(one.image, size) for one in some]),
                "mask": np.zeros((len(some), *config.input.size), np.uint8),
                "label": np.zeros(len(some), np.int32),
            }
            return pad_batch(found, self.batch_size)

        batches = (batch(seen[start : start + self.batch_size]) for start in range(0, len(seen), self.batch_size))
        return collect(self._predict[name](self.variables[name], batches))[row]

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the calls should know of how they were calibrated."""
        return self.stages["classifier"].calibration.notes if "classifier" in self.stages else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of infection that masks keep apart, by their numbers from 1 on; () for infected or not."""
        classes = self.stages["segmenter"].task.classes[1:] if "segmenter" in self.stages else ()
        return classes if len(classes) > 1 else ()


def _check_spacing(spacing: Spacing) -> None:
    if spacing is None:
        return
    try:
        steps = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        steps = np.zeros(0)
    if steps.shape not in ((2,), (3,)) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InputError(f"spacing: {spacing!r}, give mm between rows and columns, two numbers above 0")
