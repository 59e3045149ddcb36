"""Validation at the end of an epoch: what is kept as best is what is scored here."""

import math
from typing import Any

import numpy as np

from covjax.data.loader import SliceReader, eval_batches, train_batches
from covjax.evaluation.predict import NotFinite, collect, make_predictor, mean_loss
from covjax.parallel import round_up
from covjax.stages.stage import Stage
from covjax.training.batch_norm import make_finaliser
from covjax.training.state import TrainState, eval_variables


class Validation:
    """The validation slices of a stage, and how its variables are made ready for them."""

    def __init__(self, stage: Stage, readers: dict[str, SliceReader], seed: int):
        self._stage = stage
        self._readers = readers
        self._seed = seed
        self._predict = make_predictor(stage)
        self._finalise = make_finaliser(stage)

    def variables(self, state: TrainState) -> dict[str, Any]:
        """Returns averaged parameters and finalised BatchNorm statistics where asked for."""
        variables = eval_variables(state)
        config = self._stage.config
        if config.batch_norm == "running":
            return variables
        batches = train_batches(
            self._readers["train"], batch_size=config.batch_size, seed=self._seed, epoch=0
        )
        statistics = self._finalise(variables["params"], variables["batch_stats"], batches)
        return variables | {"batch_stats": statistics}

    def scores(self, variables: dict[str, Any]) -> tuple[float, dict[str, float | None]]:
        """Returns the loss and the scores by name. Raises NotFinite."""
        size = round_up(self._stage.config.batch_size)
        batches = eval_batches(self._readers["val"], batch_size=size)
        rows = collect(self._predict(variables, batches))
        loss = mean_loss(rows)
        if not math.isfinite(loss) and rows["weight"].any():
            raise NotFinite(self._stage.name, int((~np.isfinite(rows["loss"])).argmax()))
        found = self._stage.task.scores(rows, self._stage.threshold, None)
        return loss, {name: score["value"] for name, score in found.items()}
