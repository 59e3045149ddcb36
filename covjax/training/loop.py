"""The training loop: one for all stages, resumable at any step with bit-identical results."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from covjax.data.loader import Batch, SliceReader, steps_per_epoch, train_batches
from covjax.errors import InputError, Interrupted, RunError
from covjax.evaluation.predict import NotFinite
from covjax.optim.freezing import split_frozen
from covjax.optim.optimizer import make_optimizer, make_schedule
from covjax.parallel import pmap_train, replicate, shard
from covjax.progress import report_event
from covjax.runtime import peak_memory_mb
from covjax.settings import RunSettings
from covjax.stages.settings import StageSettings
from covjax.stages.stage import Stage, init_variables, variable_shapes
from covjax.stages.statistics import statistics_digest
from covjax.training.checkpoint import Checkpoints
from covjax.training.history import History
from covjax.training.progress import Progress, Stopwatch, progress_bar
from covjax.training.signals import deferred_signals
from covjax.training.state import TrainState, create_state
from covjax.training.step import train_step
from covjax.training.validation import Validation

# steps between two fetches of the loss: the device must not wait for the host more often
LOG_EVERY = 20  # steps
LOG_SECONDS = 5.0  # so that the bar moves where steps are slow


class Taken(NamedTuple):
    """A step whose metrics are still on the device."""

    step: int
    metrics: dict[str, jax.Array]
    slices: np.ndarray  # which


def train_stage(
    stage: Stage, readers: dict[str, SliceReader], config: RunSettings, workdir: Path, *,
    start: Any = None, verbose: bool = True,
) -> dict[str, Any]:  # fmt: skip
    """Trains a stage until its last epoch, and returns its timing.

    It goes on where it stopped if it was interrupted; the result is the same to the bit. Writes
    checkpoints/STAGE/{latest,best}, metrics.jsonl and tensorboard/STAGE below `workdir`.

    Args:
      stage: what is trained.
      readers: slices of "train" and "val".
      config: of the run, for its seed.
      workdir: of the run.
      start: the variables to begin with; None for those that `init_variables` returns.
      verbose: whether to show a progress bar.

    Raises:
      InputError: the devices do not divide the batch.
      Interrupted: SIGINT or one of STOPPING arrived; everything is saved.
      RunError: the loss became non-finite.
    """
    with deferred_signals() as received:
        return _Training(stage, readers, config, workdir, start, verbose).run(received)


def check_batch_size(name: str, config: StageSettings) -> None:
    """Raises InputError if the devices of this process do not divide a stage's batch."""
    size = config.batch_size
    devices = jax.device_count()
    if size % devices:
        raise InputError(f"{name}.batch_size: {size} is not a multiple of the {devices} devices")
    if config.augment.mixup and size // devices % 2:
        raise InputError(
            f"{name}.augment.mixup: mixes pairs of slices on each device, "
            f"use a batch_size that is a multiple of {2 * devices}"
        )


class _Training:
    """The variables of one call of train_stage."""

    def __init__(
        self,
        stage: Stage,
        readers: dict[str, SliceReader],
        config: RunSettings,
        workdir: Path,
        start: Any,
        verbose: bool,
    ):
        check_batch_size(stage.name, stage.config)
        self.watch = Stopwatch()
        self.stage = stage
        self.config = stage.config
        self.readers = readers
        self.seed = config.seed
        self.received: list[int] = []  # signals that ask the training to stop
        self.steps = steps_per_epoch(len(readers["train"]), self.config.batch_size)
        self.schedule = make_schedule(self.config.optimizer, self.steps, self.config.epochs)
        self.optimizer = make_optimizer(self.config.optimizer, self.schedule)
        self.step_fn = pmap_train(partial(train_step, stage=stage, optimizer=self.optimizer))
        self.validation = Validation(stage, readers, self.seed)
        self.best_name = stage.task.best + stage.task.while_training
        folder = workdir / "checkpoints" / stage.name
        statistics = statistics_digest(stage.statistics)
        self.latest = Checkpoints(folder / "latest", write=True, statistics=statistics)
        self.best = Checkpoints(folder / "best", write=True, statistics=statistics)
        self.state, self.progress = self._resumed() or (self._fresh(start), Progress())
        self.step = int(self.state.step)
        self.history = History(workdir, stage.name, self.step)
        total = self.steps * self.config.epochs
        self.bar = progress_bar(stage.name, self.step, total, verbose)
        self.pending: list[Taken] = []

    def _resumed(self) -> tuple[TrainState, Progress] | None:
        """Reads the latest checkpoint, if any, into shapes alone: nothing is initialised for it."""
        if self.latest.newest() is None:
            return None
        shapes = jax.eval_shape(self._create_state, variable_shapes(self.stage.model, self.config))
        restored = self.latest.restore(shapes)
        return restored and (restored[0], Progress(**restored[1]))

    def _fresh(self, start: Any) -> TrainState:
        variables = start or init_variables(self.stage.model, self.config, self.seed)
        return replicate(self._create_state(variables))

    def _create_state(self, variables: Any) -> TrainState:
        settings = self.config.optimizer
        return create_state(variables, self.optimizer, self.seed, settings.ema > 0, settings.freeze)

    def run(self, received: list[int]) -> dict[str, Any]:
        """Trains the epochs that are left, until a signal is received; returns the timing."""
        self.received = received
        try:
            self._train()
        finally:
            self.bar.close()
            self.latest.close()
            self.best.close()
            self.history.close()
        return self._timing()

    def _train(self) -> None:
        self._stop_if_asked()
        while self.progress.epoch < self.config.epochs:
            self._train_epoch()
            self._finish_epoch()
            self._stop_if_asked()
        self._wait()
        self._stop_if_asked()

    def _train_epoch(self) -> None:
        """Takes the steps of an epoch that are left."""
        epoch = self.progress.epoch
        batches = train_batches(
            self.readers["train"],
            batch_size=self.config.batch_size,
            seed=self.seed,
            epoch=epoch,
            start=self.step - epoch * self.steps,
            process=jax.process_index(),
            processes=jax.process_count(),
        )
        self._lap()
        for batch in batches:
            self._take_step(batch)
            if self.step % LOG_EVERY == 0 or self.watch.running() > LOG_SECONDS:
                self._fetch()
            if self.step % self.steps == 0:
                break  # validation belongs to the epoch: a checkpoint before would repeat it
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0:
                self._save()
            self._stop_if_asked()
        self._fetch()

    def _take_step(self, batch: Batch) -> None:
        index = batch.pop("index")
        valid = np.ones(len(index), bool)
        self.state, metrics = self.step_fn(self.state, shard(batch | {"valid": valid}))
        self.step += 1
        self.pending.append(Taken(self.step, metrics, index))

    def _fetch(self) -> None:
        """Fetches the losses since the last time, and stops the run if a step was not finite."""
        taken = self.pending
        self.pending = []
        values = jax.device_get([one.metrics for one in taken])
        seconds = self._lap()
        self.progress.count(len(taken) * self.config.batch_size, seconds)
        for one, value in zip(taken, values, strict=True):
            if not value["finite"]:
                ids = [self.readers["train"].data.ids[i] for i in one.slices]
                raise self._not_finite(one.step, f"slices {', '.join(ids)}")
            self.progress.add_loss(float(value["loss"]), float(value["weight"]))
        self.bar.update(len(values))
        if values:
            loss = float(values[-1]["loss"])
            self.bar.set_postfix(self.progress.texts(loss, self.best_name))
            report_event(
                "steps",
                stage=self.stage.name,
                epoch=self.progress.epoch + 1,
                step=self.step,
                steps=self.steps * self.config.epochs,
                loss=loss,
                seconds=round(seconds, 3),
            )

    def _finish_epoch(self) -> None:
        """Validates, records, and saves: the best checkpoint if it is one, the latest always."""
        variables = self.validation.variables(self.state)
        try:
            loss, scores = self.validation.scores(variables)
        except NotFinite:
            raise self._not_finite(self.step, "validation slices") from None
        score = scores[self.stage.task.best]
        if self.progress.finish_epoch(score):
            info = {"epoch": self.progress.epoch, "score": score, "score_name": self.best_name}
            self.best.save(self.step, variables, info)
        ending = self.stage.task.while_training
        self.history.write(
            self.progress.epoch,
            self.step,
            {
                "learning_rate": float(np.asarray(self.schedule(self.step - 1))),
                **self.progress.epoch_summary(),
                "val/loss": loss,
                **{f"val/{name}{ending}": value for name, value in scores.items()},
            },
        )
        self.progress.begin_epoch()
        self._lap()  # validation is no training time
        self._save()
        self.bar.set_postfix(self.progress.texts(loss, self.best_name))

    def _save(self) -> None:
        self._fetch()  # a state whose losses were not looked at is not known to be good
        # the latest checkpoint says which is the best: that one must be on disk first
        self.best.wait()
        self.latest.save(self.step, self.state, asdict(self.progress))

    def _stop_if_asked(self) -> None:
        if not self.received:
            return
        self._save()
        self._wait()
        raise Interrupted(
            self.received[0],
            f"{self.stage.name}: stopped at step {self.step}, everything saved; "
            "run the same command to resume",
        )

    def _not_finite(self, step: int, where: str) -> RunError:
        self.latest.wait()
        newest = self.latest.newest()
        good = "none was written yet" if newest is None else str(self.latest.path(newest))
        return RunError(
            f"{self.stage.name}: the loss or the parameters are not finite at step {step} "
            f"({where}); last good checkpoint: {good}; lower optimizer.learning_rate or set "
            "optimizer.clip_norm in a new --workdir"
        )

    def _lap(self) -> float:
        """Returns the seconds since the last lap, those of compiling counted apart."""
        seconds, compiling = self.watch.lap()
        self.progress.compile_seconds += compiling
        return seconds

    def _wait(self) -> None:
        self.latest.wait()
        self.best.wait()

    def _timing(self) -> dict[str, Any]:
        """Returns what results/timing.json says of the training."""
        progress = self.progress
        params = self.state.params
        trainable, _ = split_frozen(params, self.config.optimizer.freeze)
        return {
            "train_seconds": round(progress.seconds, 2),
            "epochs": progress.epoch,
            "steps": self.step,
            "best_epoch": progress.best_epoch,
            "best_score": progress.best_score,
            "slices_per_second_train": round(progress.slices_per_second, 3),
            "compile_seconds": round(progress.compile_seconds, 2),
            "peak_memory_mb": round(peak_memory_mb(), 1),
            "parameters": sum(p.size for p in jax.tree.leaves(params)),
            "trainable_parameters": sum(p.size for p in jax.tree.leaves(trainable)),
        }
