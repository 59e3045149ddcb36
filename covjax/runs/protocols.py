"""The paper's evaluation protocol and honest ones, compared on the paper's own slices.

Paper: "Classification and Region Analysis of COVID-19 Infection using Lung CT Images and Deep
Convolutional Neural Networks", arXiv:2009.08864. Its pictures are figures whose white margin is
labelled infected; it splits by slice.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import covjax
from covjax.data.loader import SliceReader, eval_batches
from covjax.data.prepared.dataset import prepare
from covjax.data.sources.prlab21 import PRLAB21_CT
from covjax.data.splits.splits import read_splits, split_indices
from covjax.errors import InputError
from covjax.evaluation.delivered import confusion_of
from covjax.evaluation.predict import collect, make_predictor
from covjax.files import write_json
from covjax.locks import held
from covjax.metrics import segmentation_scores
from covjax.parallel import round_up
from covjax.runs.slices import view_settings
from covjax.runs.train import train_run
from covjax.runs.trained import load_trained
from covjax.scores import PROTOCOLS
from covjax.settings import RunSettings
from covjax.stages.segmentation import CLASSES
from covjax.stages.settings import SegmenterSettings

FIGURE = (304, 304)
# name: (data.frame, split.by) of the run that is trained for it
RUNS = {
    "paper": ("full", "slice"),
    "margin_ignored": ("ignore_margin", "slice"),
    "honest": ("ct", "patient"),
}
# name: (run or None, data.frame it is scored on); in the order of the table
ROWS = {
    "margin_is_infected": (None, "full"),
    "paper": ("paper", "full"),
    "paper_inside_ct": ("paper", "ignore_margin"),
    "margin_ignored": ("margin_ignored", "ignore_margin"),
    "honest": ("honest", "ct"),
}


def run_protocols(config: RunSettings, output: Path) -> None:
    """Trains the segmenter of `config` under every protocol and writes OUTPUT/protocols.json.

    The runs are in OUTPUT/NAME. All else is as `config` says; runs that are finished are not
    repeated, interrupted ones go on. Training and scores take the infected slices only, as the
    paper does. Raises InputError for a configuration that cannot be used.
    """
    if "segmenter" not in config.stages or config.data.source != "prlab21":
        raise InputError(
            "protocols: needs a configuration with a segmenter and data.source=prlab21, the "
            "paper's slices"
        )
    configs = {name: _protocol(config, *how) for name, how in RUNS.items()}
    for name, of_run in configs.items():
        train_run(of_run, output / name)
    # Whoever calls the margin infected is scored on the very slices that the paper's protocol is.
    rows = [
        _row(name, configs[run or "paper"], output / (run or "paper"), frame, run)
        for name, (run, frame) in ROWS.items()
    ]
    settings = {
        "size": list(config.stages["segmenter"].input.size),
        "epochs": config.stages["segmenter"].epochs,
        "seed": config.seed,
    }
    record = {"covjax": covjax.__version__, "settings": settings, "rows": rows}
    with held(output):
        write_json(output / "protocols.json", record)


def _protocol(config: RunSettings, frame: str, by: str) -> RunSettings:
    segmenter = config.stages["segmenter"]
    assert isinstance(segmenter, SegmenterSettings)
    return replace(
        config,
        data=replace(config.data, frame=frame),
        split=replace(config.split, by=by),
        stages={"segmenter": replace(segmenter, slices="infected")},
    )


def _row(
    name: str, config: RunSettings, workdir: Path, frame: str, run: str | None
) -> dict[str, Any]:
    """Scores a run, or for `run` None the margin itself, on its test slices shown in `frame`."""
    reader = _test_slices(config, workdir, frame)
    if run is None:
        confusions = margin_confusions(reader)
    else:
        stage, variables = load_trained("segmenter", config, workdir)
        batches = eval_batches(reader, batch_size=round_up(config.stages["segmenter"].batch_size))
        confusions = collect(make_predictor(stage)(variables, batches))["confusion"]
    scores = segmentation_scores(confusions, CLASSES)
    splits = read_splits(workdir / "splits.json")
    return {
        "name": name, "run": run, "frame": frame, "split": config.split.by, "slices": len(reader),
        "patients": len({reader.data.patients[i] for i in reader.indices}),
        "unseen": not set(splits["patients"]["train"]) & set(splits["patients"]["test"]),
        "scores": {key: scores[key] for key in PROTOCOLS},
    }  # fmt: skip


def _test_slices(config: RunSettings, workdir: Path, frame: str) -> SliceReader:
    seen = replace(config.data, frame=frame)
    data = prepare(seen)
    indices = split_indices(data, read_splits(workdir / "splits.json"), "test")
    settings = view_settings(config.stages["segmenter"], seen)
    return SliceReader(data, indices[data.labels[indices] == 1], settings, cache=False, native=True)


def margin_confusions(reader: SliceReader) -> np.ndarray:
    """Returns confusion matrices [N, 2, 2] of calling the margin infected and the CT background."""
    margin = np.ones(FIGURE, np.uint8)
    margin[PRLAB21_CT] = 0
    return np.stack([confusion_of(reader.data.decode(i)[1], margin, 2) for i in reader.indices])
