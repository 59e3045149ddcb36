"""A trained run as one function of slices: stage 1 calls slices infected, stage 2 segments those.

Source: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import expit

from covjax.data.loader import Batch, pad_batch
from covjax.data.resizing import check_fits
from covjax.data.views import Native, Spacing, View, ViewSettings, crop_note, make_view, seen_crop
from covjax.errors import InputError
from covjax.evaluation.options import PLAIN, Options
from covjax.evaluation.predict import NotFinite, collect, make_predictor
from covjax.evaluation.tta import check_tta
from covjax.parallel import replicate, round_up
from covjax.preprocess.network_input import size_field, slice_size
from covjax.runs.calibrate import noted
from covjax.runs.evaluate import check_asked
from covjax.runs.trained import load_trained
from covjax.screening.slice_values import Window, slices_of, window_of
from covjax.settings import load_settings
from covjax.stages.stage import Stage

STAGES = ("classifier", "segmenter")  # of a run; screening uses no others
# batches screened together, so that stage 2 runs on full batches of the slices called infected
CHUNK = 8


class ScreenedSlice(NamedTuple):
    """What a trained run says of one slice."""

    probability: float | None  # of infection; None without stage 1
    infected: bool  # called infected
    # uint8 [H, W] of 0 and 1 (or more: Screener.classes), in the slice's own size; None without
    # stage 2
    mask: np.ndarray | None
    share: float | None  # infected pixels / all pixels of the slice; None without stage 2
    notes: tuple[str, ...] = ()  # what is uncertain


class _Given(NamedTuple):
    """A slice as it was given, and how it is shown."""

    image: np.ndarray  # uint8 [H, W]
    views: dict[str, View]  # what each stage sees of it
    notes: tuple[str, ...]


class Screener:
    """A trained run, ready to screen slices: `Screener.from_workdir(path).screen(images)`.

    It can be pickled, and so be sent to other processes; there it compiles anew.
    """

    def __init__(
        self, stages: dict[str, Stage], variables: dict[str, Any], batch_size: int | None = None,
        options: Options = PLAIN, lung_crop: bool = False, spacing: float = 0.0, bits: int = 16,
    ):  # fmt: skip
        """Takes stages ("classifier", "segmenter", or one of them) and each one's variables.

        With `lung_crop` the networks see slices cropped to the lungs, as in training with
        data.lung_crop; with `spacing` above 0 at that many mm per pixel, as in training with
        data.spacing. `bits` is data.bits: those that 16-bit picture files use. Raises InputError
        for a batch size that is no number of slices.
        """
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size > 0):
            raise InputError(
                f"batch_size: {batch_size!r}, give a number of slices, 1 or more, or None"
            )
        self.stages = stages
        self.variables = variables
        self.lung_crop = lung_crop
        self.spacing = spacing
        self._settings = {
            name: ViewSettings(
                slice_size(stage.config.input), stage.config.input.size, spacing, lung_crop
            )
            for name, stage in stages.items()
        }
        self.bits = bits
        self.options = options
        self.batch_size = round_up(batch_size or next(iter(stages.values())).config.batch_size)
        self._make_predictors()

    def _make_predictors(self) -> None:
        self._predict = {
            name: make_predictor(stage, (), self.options) for name, stage in self.stages.items()
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
    def from_workdir(
        cls, workdir: Path | str, batch_size: int | None = None, options: Options = PLAIN
    ) -> "Screener":
        """Loads the best checkpoints of a finished run.

        Raises InputError or RunError if there are none, or the run has none of STAGES.
        """
        workdir = Path(workdir)
        config = load_settings(workdir)
        check_asked(config.stages, options)
        check_tta(config, options.tta)
        names = [name for name in STAGES if name in config.stages]
        if not names:
            raise InputError(f"{workdir}: screening needs a run with a {' or a '.join(STAGES)}")
        trained = {name: load_trained(name, config, workdir) for name in names}
        stages = {name: noted(stage, options.tta) for name, (stage, _) in trained.items()}
        variables = {name: variables for name, (_, variables) in trained.items()}
        data = config.data
        return cls(stages, variables, batch_size, options, data.lung_crop, data.spacing, data.bits)

    def screen(
        self,
        images: Any,
        spacing: Spacing = None,
        name: object = "images",
        *,
        window: Window = None,
    ) -> Iterator[ScreenedSlice]:
        """Screens slices of any size, in order and in constant memory.

        Args:
          images: an iterable of slices, a stack [N, H, W], or one slice. A slice is an array uint8
            [H, W] or [H, W, 1], taken as it is; an array of any other integer or floating-point
            type in HU, with `window`; a Pillow image; or the path of a picture.
          spacing: mm between rows and columns, needed only where the run was trained with
            data.spacing.
          name: what errors call them.
          window: what brings HU to 0..255, as in training: "lung", "mediastinum", "centre,width" or
            the two numbers.

        Raises:
          InputError: a slice, named by its number, is nothing of this: has other axes, NaN, values
            0..1, HU without `window` or values that are no HU; `spacing` is no such pair; or the
            run was trained with data.spacing, and that of the slices is not known or they do not
            fit.
          RunError: what a network returns is not finite: nothing is called.
        """
        window_of(window)
        _check_spacing(spacing)
        return self._screened(slices_of(images, name, window, self.bits), spacing, name)

    def _screened(
        self, source: Iterator[np.ndarray], spacing: Spacing, name: object
    ) -> Iterator[ScreenedSlice]:
        done = 0
        while chunk := [
            self._given(image, spacing, name) for image in islice(source, CHUNK * self.batch_size)
        ]:
            try:
                yield from self._screen_chunk(chunk)
            except NotFinite as error:
                raise error.of(f"{name}[{done + error.position}]") from None
            done += len(chunk)

    def _screen_chunk(self, chunk: list[_Given]) -> Iterator[ScreenedSlice]:
        probability: list[float | None] = [None] * len(chunk)
        called = np.ones(len(chunk), bool)
        if "classifier" in self.stages:
            log_odds = self._run("classifier", chunk, "log_odds")
            probability = expit(log_odds).tolist()
            called = self.stages["classifier"].calls(log_odds)
        if not self.segments:
            for p, infected, one in zip(probability, called, chunk, strict=True):
                yield ScreenedSlice(p, bool(infected), None, None, one.notes)
            return
        masks = self._masks(chunk, called)
        for p, infected, mask, one in zip(probability, called, masks, chunk, strict=True):
            marked = mask > 0
            infected = bool(marked.any() if p is None else infected)
            yield ScreenedSlice(p, infected, mask, float(marked.mean()), one.notes)

    def _given(self, image: np.ndarray, spacing: Spacing, name: object) -> _Given:
        crop = seen_crop(image, self.lung_crop)
        stored = (image.shape[0], image.shape[1])
        views: dict[str, View] = {}
        for stage, settings in self._settings.items():
            view = make_view(name, stored, crop.box, spacing, settings)
            views[stage] = view
            if self.spacing:
                field = f"{stage}.input.{size_field(self.stages[stage].config.input)}"
                check_fits(name, view.shape, settings.image, self.spacing, field)
        return _Given(image, views, (crop_note(crop.kept),) if crop.kept else ())

    def _masks(self, chunk: list[_Given], called: np.ndarray) -> list[np.ndarray]:
        masks = [np.zeros(one.image.shape, np.uint8) for one in chunk]
        chosen = np.flatnonzero(called)
        if len(chosen):
            try:
                predicted = self._run("segmenter", [chunk[i] for i in chosen], "predicted")
            except NotFinite as error:
                raise NotFinite(error.stage, int(chosen[error.position])) from None
            for i, mask in zip(chosen, predicted, strict=True):
                masks[i] = mask
        return masks

    def _run(self, name: str, chunk: list[_Given], row: str) -> Any:
        starts = range(0, len(chunk), self.batch_size)
        batches = (self._batch(name, chunk[start : start + self.batch_size]) for start in starts)
        keep = ("predicted",) if name == "segmenter" else ()
        return collect(self._predict[name](self.variables[name], batches, keep=keep))[row]

    def _batch(self, name: str, chunk: list[_Given]) -> Batch:
        found = {
            "image": np.stack([one.views[name].picture(one.image) for one in chunk]),
            "mask": np.zeros((len(chunk), *self._settings[name].mask), np.uint8),
            "label": np.zeros(len(chunk), np.int32),
            "native": [Native(one.views[name]) for one in chunk],
        }
        return pad_batch(found, self.batch_size)

    @property
    def segments(self) -> bool:
        """Whether the run marks infection, slice by slice."""
        return "segmenter" in self.stages

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads the calls should know of how they were calibrated."""
        return self.stages["classifier"].calibration.notes if "classifier" in self.stages else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of infection in masks, by their numbers from 1 on; () for infected or not."""
        classes = self.stages["segmenter"].task.classes[1:] if self.segments else ()
        return classes if len(classes) > 1 else ()


def _check_spacing(spacing: Spacing) -> None:
    if spacing is None:
        return
    try:
        steps = np.asarray(spacing, np.float64)
    except (TypeError, ValueError):
        steps = np.zeros(0)
    if steps.shape not in ((2,), (3,)) or not (np.isfinite(steps) & (steps > 0)).all():
        raise InputError(
            f"spacing: {spacing!r}, give mm between rows and columns, two numbers above 0"
        )
