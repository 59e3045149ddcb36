"""The training loop: one for both stages, resumable at any step with bit-identical results."""

import math
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from covjax.data.loader import SliceReader, eval_batches, steps_per_epoch, train_batches
from covjax.errors import InputError, Interrupted, RunError
from covjax.evaluation.predict import NotFinite, collect, make_predictor, mean_loss
from covjax.optim.freezing import split_frozen
from covjax.optim.optimizer import make_optimizer, make_schedule
from covjax.parallel import pmap_train, replicate, round_up, shard
from covjax.runtime import compile_seconds, peak_memory_mb
from covjax.settings import RunSettings
from covjax.stages.stage import Stage, init_variables, variable_shapes
from covjax.training.batch_norm import make_finaliser
from covjax.training.checkpoint import Checkpoints
from covjax.training.history import History
from covjax.training.signals import deferred_signals
from covjax.training.state import TrainState, create_state, eval_variables
from covjax.training.step import train_step

# steps between two fetches of the loss: the device must not wait for the host more often
LOG_EVERY = 20


@dataclass
class Progress:
    """Where a training stands; saved with every checkpoint."""

    epoch: int = 0  # epochs finished
    best_score: float | None = None
    best_epoch: int = 0
    loss: float = 0.0  # sums over the epoch under way
    weight: float = 0.0
    seconds: float = 0.0  # spent training so far
    compile_seconds: float = 0.0
    slices: int = 0
    epoch_seconds: float = 0.0
    epoch_slices: int = 0


@dataclass
class Pending:
    """Losses of recent steps, still on the device."""

    steps: list[int] = field(default_factory=list)
    metrics: list[dict[str, jax.Array]] = field(default_factory=list)
    indices: list[np.ndarray] = field(default_factory=list)


def train_stage(
    stage: Stage, readers: dict[str, SliceReader], config: RunSettings, workdir: Path, *, start: Any = None,
    verbose: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Trains a stage until its last epoch, from where it stopped if it was interrupted, and returns
    its timing.

    `start` is the variables to begin with; None for those that `init_variables` returns.

    Writes checkpoints/STAGE/{latest,best}, metrics.jsonl and tensorboard/STAGE below `workdir`. The
    result is the same to the bit whether or not it was interrupted. Raises Interrupted after saving
    when SIGINT or SIGTERM arrives, RunError when the loss becomes non-finite.
    """
    with deferred_signals() as received:
        return _Training(stage, readers, config, workdir, start, verbose).run(received)


class _Training:
    """The loop's variables; lives for one call of train_stage."""

    def __init__(
        self,
        stage: Stage,
        readers: dict[str, SliceReader],
        config: RunSettings,
        workdir: Path,
        start: Any,
        verbose: bool,
    ):
        self.stage = stage
        self.readers = readers
        self.seed = config.seed
        self.verbose = verbose
        self.config = stage.config
        self.workdir = workdir
        self.clock = time.perf_counter()
        self.compiled = compile_seconds()
        self.batch_size = self.config.batch_size
        self.epochs = self.config.epochs
        if self.batch_size % jax.device_count():
            raise InputError(
                f"{stage.name}.batch_size: {self.batch_size} is not a multiple of the {jax.device_count()} devices"
            )
        if self.config.augment.mixup and self.batch_size // jax.device_count() % 2:
            raise InputError(
                f"{stage.name}.augment.mixup: mixes pairs of slices on each device, "
                f"use a batch_size that is a multiple of {2 * jax.device_count()}"
            )
        self.steps = steps_per_epoch(len(readers["train"]), self.batch_size)
        self.schedule = make_schedule(self.config.optimizer, self.steps, self.epochs)
        self.optimizer = make_optimizer(self.config.optimizer, self.schedule)
        self.step_fn = pmap_train(partial(train_step, stage=stage, optimizer=self.optimizer))
        self.predict = make_predictor(stage)
        self.best_name = stage.task.best + stage.task.while_training
        self.finalise = make_finaliser(stage)
        self.latest = Checkpoints(workdir / "checkpoints" / stage.name / "latest", write=True)
        self.best = Checkpoints(workdir / "checkpoints" / stage.name / "best", write=True)
        self.state, self.progress = self._resumed() or (self._fresh(start), Progress())
        self.pending = Pending()
        params = self.state.params
        self.parameters, self.trainable = (
            sum(p.size for p in jax.tree.leaves(tree))
            for tree in (params, split_frozen(params, self.config.optimizer.freeze)[0])
        )

    def _resumed(self) -> tuple[TrainState, Progress] | None:
        """Reads the latest checkpoint, if there is one, into shapes alone: nothing is initialised
        for it.
        """
        if self.latest.newest() is None:
            return None
        shapes = jax.eval_shape(self._create_state, variable_shapes(self.stage.model, self.config))
        state, info = self.latest.restore(shapes)
        return state, Progress(**info)

    def _fresh(self, start: Any) -> TrainState:
        return replicate(
            self._create_state(start or init_variables(self.stage.model, self.config, self.seed))
        )

    def _create_state(self, variables: Any) -> TrainState:
        settings = self.config.optimizer
        return create_state(variables, self.optimizer, self.seed, settings.ema > 0, settings.freeze)

    def run(self, received: list[int]) -> dict[str, Any]:
        self.step = int(self.state.step)
        self.history = History(self.workdir, self.stage.name, self.step)
        if self.verbose and self.step:
            print(
                f"{self.stage.name}: resuming at step {self.step} of {self.steps * self.epochs}",
                flush=True,
            )
        try:
            with self._bar() as self.bar:
                self._stop_if(received)
                while self.progress.epoch < self.epochs:
                    self._train_epoch(received)
                    self._finish_epoch()
                    self._stop_if(received)
                self.latest.wait()
                self.best.wait()
                self._stop_if(received)
        finally:
            self.latest.close()
            self.best.close()
            self.history.close()
        return self._timing()

    def _train_epoch(self, received: list[int]) -> None:
        epoch = self.progress.epoch
        start = self.step - self.progress.epoch * self.steps
        batches = train_batches(
            self.readers["train"], batch_size=self.batch_size, seed=self.seed, epoch=epoch, start=start,
            process=jax.process_index(), processes=jax.process_count(),
        )  # fmt: skip
        self._lap()
        for batch in batches:
            index = batch.pop("index")
            valid = np.ones(len(index), bool)
            self.state, metrics = self.step_fn(self.state, shard(batch | {"valid": valid}))
            self.step += 1
            self.pending.steps.append(self.step)
            self.pending.metrics.append(metrics)
            self.pending.indices.append(index)
            if self.step % LOG_EVERY == 0:
                self._fetch()
            if self.step % self.steps == 0:
                # validation belongs to the epoch: a checkpoint between the two would have to repeat
                # it
                break
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                self._save()
            self._stop_if(received)
        self._fetch()

    def _fetch(self) -> None:
        """Fetches the losses since the last time, adds them up and stops the run if a step was not
        finite.
        """
        pending = self.pending
        self.pending = Pending()
        values = jax.device_get(pending.metrics)
        p = self.progress
        slices = len(values) * self.batch_size
        seconds = self._lap()
        p.seconds = p.seconds + seconds
        p.slices = p.slices + slices
        p.epoch_seconds = p.epoch_seconds + seconds
        p.epoch_slices = p.epoch_slices + slices
        for step, value, index in zip(pending.steps, values, pending.indices, strict=True):
            if not value["finite"]:
                self._stop_non_finite(
                    step, "slices " + ", ".join(self.readers["train"].data.ids[i] for i in index)
                )
            p.loss += float(value["loss"]) * float(value["weight"])
            p.weight += float(value["weight"])
        self.bar.update(len(values))
        if values:
            self.bar.set_postfix(self._postfix(float(values[-1]["loss"])))

    def _lap(self) -> float:
        """Returns the seconds since the last lap, without those spent compiling: they are counted
        apart.
        """
        now = time.perf_counter()
        compiled = compile_seconds()
        seconds = now - self.clock
        compiling = compiled - self.compiled
        self.clock = now
        self.compiled = compiled
        self.progress.compile_seconds += compiling
        return seconds - compiling

    def _stop_non_finite(self, step: int, where: str) -> None:
        self.latest.wait()
        newest = self.latest.newest()
        good = "none was written yet" if newest is None else str(self.latest.path(newest))
        raise RunError(
            f"{self.stage.name}: the loss or the parameters are not finite at step {step} ({where}); "
            f"last good checkpoint: {good}; lower optimizer.learning_rate or set optimizer.clip_norm in a new --workdir"
        )

    def _finish_epoch(self) -> None:
        """Validates, records, and saves: the best checkpoint if it is one, the latest always."""
        p = self.progress
        variables = self._eval_variables()
        batches = eval_batches(self.readers["val"], batch_size=round_up(self.batch_size))
        try:
            rows = collect(self.predict(variables, batches))
        except NotFinite:
            self._stop_non_finite(self.step, "validation slices")
        loss = mean_loss(rows)
        if not math.isfinite(loss) and rows["weight"].any():
            self._stop_non_finite(self.step, "validation slices")
        found = self.stage.task.scores(rows, self.stage.threshold, None)
        scores = {name: score["value"] for name, score in found.items()}
        score = scores[self.stage.task.best]
        p.epoch += 1
        if p.best_score is None or (score is not None and score > p.best_score):
            p.best_score = score
            p.best_epoch = p.epoch
            info = {"epoch": p.epoch, "score": score, "score_name": self.best_name}
            self.best.save(self.step, variables, info)
        self.history.write(
            p.epoch,
            self.step,
            {
                "learning_rate": float(self.schedule(self.step - 1)),
                "seconds": p.epoch_seconds,
                "slices_per_second": p.epoch_slices / max(p.epoch_seconds, 1e-9),
                "train/loss": p.loss / max(p.weight, 1e-12),
                "val/loss": loss,
                **{
                    f"val/{name}{self.stage.task.while_training}": value
                    for name, value in scores.items()
                },
            },
        )
        p.loss = p.weight = p.epoch_seconds = 0.0
        p.epoch_slices = 0
        self._lap()  # validation is no training time
        self._save()
        if self.verbose:
            self.bar.set_postfix(self._postfix(loss))

    def _eval_variables(self) -> dict[str, Any]:
        """What is validated and kept as best: averaged parameters and finalised BatchNorm
        statistics where asked.
        """
        variables = eval_variables(self.state)
        if self.config.batch_norm == "running":
            return variables
        batches = train_batches(
            self.readers["train"], batch_size=self.batch_size, seed=self.seed, epoch=0
        )
        return variables | {
            "batch_stats": self.finalise(variables["params"], variables["batch_stats"], batches)
        }

    def _save(self) -> None:
        self._fetch()  # a state whose losses were not looked at is not known to be good
        # the latest checkpoint says which is the best: that one must be on disk first
        self.best.wait()
        self.latest.save(self.step, self.state, dict(vars(self.progress)))

    def _stop_if(self, received: list[int]) -> None:
        if not received:
            return
        self._save()
        self.latest.wait()
        self.best.wait()
        message = f"{self.stage.name}: stopped at step {self.step}, everything saved; run the same command to resume"
        raise Interrupted(received[0], message)

    def _bar(self) -> tqdm:
        return tqdm(
            total=self.steps * self.epochs, initial=self.step, desc=self.stage.name, unit="step",
            disable=not self.verbose, mininterval=1.0, dynamic_ncols=True,
        )  # fmt: skip

    def _postfix(self, loss: float) -> dict[str, str]:
        p = self.progress
        name = self.best_name
        best = "-" if p.best_score is None else f"{p.best_score:.3f}"
        return {
            "loss": f"{loss:.4f}",
            f"best {name}": best,
            "slices/s": f"{p.slices / max(p.seconds, 1e-9):.1f}",
        }

    def _timing(self) -> dict[str, Any]:
        p = self.progress
        return {
            "train_seconds": round(p.seconds, 2),
            "epochs": p.epoch,
            "steps": self.step,
            "best_epoch": p.best_epoch,
            "best_score": p.best_score,
            "slices_per_second_train": round(p.slices / max(p.seconds, 1e-9), 3),
            "compile_seconds": round(p.compile_seconds, 2),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "parameters": self.parameters,
            "trainable_parameters": self.trainable,
        }
