"""Where a training stands, how long it took, and the bar that shows it."""

import time
from dataclasses import dataclass

from tqdm import tqdm

from covjax.runtime import compile_seconds


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

    @property
    def slices_per_second(self) -> float:
        """Speed of training so far."""
        return self.slices / max(self.seconds, 1e-9)

    def texts(self, loss: float, score_name: str) -> dict[str, str]:
        """Returns what stands behind the bar: the latest loss and the best score."""
        return {
            "loss": f"{loss:.3f}",
            f"best {score_name}": "-" if self.best_score is None else f"{self.best_score:.3f}",
        }

    def count(self, slices: int, seconds: float) -> None:
        """Adds slices trained on, and the seconds spent on them."""
        self.seconds += seconds
        self.slices += slices
        self.epoch_seconds += seconds
        self.epoch_slices += slices

    def add_loss(self, loss: float, weight: float) -> None:
        """Adds the loss of a step, a mean over so much weight."""
        self.loss += loss * weight
        self.weight += weight

    def finish_epoch(self, score: float | None) -> bool:
        """Counts an epoch, and returns whether its score is the best; the first one always is."""
        self.epoch += 1
        best = self.best_score is None or (score is not None and score > self.best_score)
        if best:
            self.best_score = score
            self.best_epoch = self.epoch
        return best

    def epoch_summary(self) -> dict[str, float]:
        """Returns the speed and the training loss of the epoch under way."""
        return {
            "seconds": self.epoch_seconds,
            "slices_per_second": self.epoch_slices / max(self.epoch_seconds, 1e-9),
            "train/loss": self.loss / max(self.weight, 1e-12),
        }

    def begin_epoch(self) -> None:
        """Sets to zero what is summed over an epoch."""
        self.loss = 0.0
        self.weight = 0.0
        self.epoch_seconds = 0.0
        self.epoch_slices = 0


class Stopwatch:
    """Measures laps; the time spent compiling is counted apart."""

    def __init__(self) -> None:
        self._time = time.perf_counter()
        self._compiled = compile_seconds()

    def running(self) -> float:
        """Returns the seconds since the last lap, with those of compiling."""
        return time.perf_counter() - self._time

    def lap(self) -> tuple[float, float]:
        """Returns the seconds since the last lap: without compiling, and those of compiling."""
        now = time.perf_counter()
        compiled = compile_seconds()
        compiling = compiled - self._compiled
        seconds = now - self._time - compiling
        self._time = now
        self._compiled = compiled
        return seconds, compiling


def progress_bar(name: str, step: int, total: int, shown: bool) -> tqdm:
    """Returns the bar of all steps of a stage, and says where it resumes; silent if not `shown`.

    Its texts fit into 80 columns, of which the bar gets what they leave.
    """
    if shown and step:
        print(f"{name}: resuming at step {step} of {total}", flush=True)
    bar = tqdm(
        total=total,
        initial=step,
        desc=name,
        unit="step",
        disable=not shown,
        mininterval=1.0,
        dynamic_ncols=True,
        bar_format="{desc}: |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]",
    )
    bar.set_postfix_str("compiling")
    return bar
