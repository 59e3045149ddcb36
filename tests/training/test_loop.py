"""The loop, its history and its refusals, in this process on slices made up here."""

import io
import json
import os
import signal
import struct
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from covjax.configs import cov_raseg
from covjax.data.loader import SliceReader
from covjax.data.views import ViewSettings
from covjax.errors import STOPPING, TIME_UP, InputError, Interrupted, RunError
from covjax.evaluation.predict import NotFinite
from covjax.settings import read_settings
from covjax.stages.stage import make_stage
from covjax.stages.statistics import measure_statistics
from covjax.training.history import History, rewind
from covjax.training.loop import _Training, train_stage
from covjax.training.signals import deferred_signals
from tests.attacks import epochs

SIZE = (16, 20)


class Slices:
    """Dark slices with a bright blob, as a prepared data set holds them."""

    def __init__(self, count):
        self.ids = [f"slice{k}" for k in range(count)]
        self.labels = np.ones(count, np.int32)
        self.spacings = [None] * count

    def decode(self, i):
        rng = np.random.default_rng(i)
        y, x = np.indices(SIZE)
        mask = ((y - rng.integers(4, 12)) ** 2 + (x - rng.integers(4, 16)) ** 2 < 12).astype(
            np.uint8
        )
        return (rng.integers(0, 60, SIZE) + 150 * mask).astype(np.uint8), mask


def reader(count):
    return SliceReader(Slices(count), np.arange(count), ViewSettings(SIZE, SIZE), cache=True)


@pytest.fixture
def run(tmp_path):
    """train(**changes of the stage's config) -> timing; runs in tmp_path / "run"."""

    def make(start=train_stage, workdir=tmp_path / "run", batch_size=4, epochs=2, **optimizer):
        config = cov_raseg.get_config().copy_and_resolve_references().unlock()
        config.segmenter.input.update(size=SIZE)
        config.segmenter.model.update(features=4, final="linear")
        config.segmenter.optimizer.update({"learning_rate": 0.01, "momentum": 0.9} | optimizer)
        config.segmenter.update(epochs=epochs, batch_size=batch_size, checkpoint_every=1)
        readers = {"train": reader(9), "val": reader(5)}
        items = [readers["train"][k] for k in range(9)]
        batch = {k: np.stack([item[k] for item in items]) for k in items[0]} | {
            "valid": np.ones(9, bool)
        }
        settings = read_settings(config)
        segmenter = settings.stages["segmenter"]
        statistics = measure_statistics("segmenter", segmenter, [batch])
        stage = make_stage("segmenter", segmenter, statistics)
        return start(stage, readers, settings, workdir, verbose=False)

    return make


def records(workdir):
    return [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def tensorboard_records(path):
    content = path.read_bytes()
    found = []
    while content:
        # then a checksum, the record and another checksum
        (length,) = struct.unpack("<Q", content[:8])
        found.append(content[12 : 12 + length])
        content = content[12 + length + 4 :]
    return found


def test_what_a_training_leaves(run, tmp_path, monkeypatch):
    watched = io.StringIO()
    monkeypatch.setattr("covjax.progress._outputs", [watched])
    timing = run()
    workdir = tmp_path / "run"
    assert (timing["epochs"], timing["steps"]) == (2, 4)
    lines = records(workdir)
    assert [(r["stage"], r["epoch"], r["step"]) for r in lines] == [
        ("segmenter", 1, 2),
        ("segmenter", 2, 4),
    ]
    best = "val/dice_infected_at_network_size"
    assert {
        "train/loss",
        "val/loss",
        best,
        "learning_rate",
        "seconds",
        "slices_per_second",
    } <= lines[0].keys()
    assert timing["best_score"] == max(r[best] for r in lines)
    folder = workdir / "checkpoints" / "segmenter"
    latest, best = ({p.name for p in (folder / kind).iterdir()} for kind in ("latest", "best"))
    assert latest == {"3", "4"} and best and best <= {"2", "4"}
    (events,) = (workdir / "tensorboard" / "segmenter").iterdir()
    assert len(tensorboard_records(events)) > 10
    found = [json.loads(line) for line in watched.getvalue().splitlines()]
    assert [line.pop("event") for line in found] == ["steps", "steps", "epoch"] * 2
    assert found[0].keys() == {"stage", "epoch", "step", "steps", "loss", "seconds"}
    assert [line["step"] for line in found] == [1, 2, 2, 3, 4, 4] and found[2] == lines[0]


def test_parameters_that_overflow_after_a_finite_loss_are_never_saved(run, tmp_path):
    with pytest.raises(RunError) as error:
        # the first loss is finite, the first update is not
        run(learning_rate=3e38, weight_decay=100.0)
    message = str(error.value)
    assert message.startswith(
        "segmenter: the loss or the parameters are not finite at step 1 (slices slice"
    )
    assert "last good checkpoint: none was written yet" in message and "\n" not in message
    assert not list((tmp_path / "run" / "checkpoints").glob("segmenter/*/[0-9]*"))


def test_last_good_checkpoint_is_named(run, tmp_path, monkeypatch):
    import covjax.training.loop as loop

    original = loop.pmap_train

    def broken_at_the_third_step(step):
        mapped = original(step)
        calls = []

        def call(state, batch):
            calls.append(1)
            state, metrics = mapped(state, batch)
            return state, metrics | ({"finite": np.False_} if len(calls) == 3 else {})

        return call

    monkeypatch.setattr(loop, "pmap_train", broken_at_the_third_step)
    with pytest.raises(RunError, match="at step 3") as error:
        run()
    assert f"last good checkpoint: {tmp_path / 'run/checkpoints/segmenter/latest/2'};" in str(
        error.value
    )


def test_a_run_that_goes_on_initialises_nothing(run, monkeypatch):
    with pytest.raises(Interrupted):
        run(start=lambda *args, verbose: _Training(*args, None, verbose).run([signal.SIGTERM]))
    monkeypatch.setattr(
        "covjax.training.loop.init_variables", lambda *_: pytest.fail("compiled for nothing")
    )
    assert run()["steps"] == 4


def test_more_epochs_of_a_finished_run_are_those_of_a_longer_one(run, tmp_path):
    def lines(workdir):
        return [
            {k: v for k, v in r.items() if "second" not in k} for r in records(tmp_path / workdir)
        ]

    run(workdir=tmp_path / "long")
    assert run(epochs=1)["steps"] == 2
    assert run()["steps"] == 4 and lines("run") == lines("long")


def test_a_signal_before_the_first_step_is_not_lost(run):
    with pytest.raises(Interrupted) as stop:
        run(start=lambda *args, verbose: _Training(*args, None, verbose).run([signal.SIGTERM]))
    assert stop.value.signal_number == signal.SIGTERM and "stopped at step 0" in str(stop.value)
    run()  # and goes on from there
    # nor is one that finds everything done
    with pytest.raises(Interrupted, match="stopped at step 4"):
        run(start=lambda *args, verbose: _Training(*args, None, verbose).run([signal.SIGINT]))


def test_signals_are_deferred_and_a_second_one_stops_at_once(capfd):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with (
        pytest.raises(Interrupted, match="stopped without saving; run the same") as stop,
        deferred_signals() as got,
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second signal was swallowed")
    assert (stop.value.signal_number, stop.value.status) == (signal.SIGINT, 130)
    with deferred_signals() as got:
        os.kill(os.getpid(), signal.SIGINT)
        assert "stopping after this step; Ctrl-C again stops at once" in capfd.readouterr().err
    with deferred_signals() as got:  # job queues send them one after the other
        for number in (*STOPPING, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert got == [*STOPPING, signal.SIGTERM]
    assert [Interrupted(number, "").status for number in STOPPING] == [143, 138, TIME_UP]
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_training_in_a_thread_leaves_signals_alone(run):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run).result()["steps"] == 4
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_network_that_returns_no_number_in_validation_stops_the_run(run, monkeypatch):
    def predictor(stage):
        def predict(variables, batches):
            raise NotFinite(stage.name, 0)
            yield

        return predict

    monkeypatch.setattr("covjax.training.validation.make_predictor", predictor)
    with pytest.raises(RunError, match=r"not finite at step 2 \(validation slices\)"):
        run()


def test_batch_that_devices_cannot_share(run, monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(
        InputError, match="segmenter.batch_size: 6 is not a multiple of the 4 devices"
    ):
        run(batch_size=6)


def test_batch_larger_than_the_training_split(run):
    with pytest.raises(InputError, match="batch_size: 16 is more than the 9 training slices"):
        run(batch_size=16)


def test_rewind_drops_later_records_of_its_stage_and_cut_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    kept = ['{"stage": "a", "step": 2}\n', '{"stage": "b", "step": 9}\n']
    path.write_text(
        kept[0] + '{"stage": "a", "step": 4}\n' + kept[1] + '{"stage": "a", "st', encoding="utf-8"
    )
    rewind(path, "a", 2)
    assert path.read_text(encoding="utf-8") == "".join(kept)
    rewind(tmp_path / "nothing.jsonl", "a", 0)
    assert not (tmp_path / "nothing.jsonl").exists()


def test_what_is_not_finite_is_null(tmp_path):
    history = History(tmp_path, "a", 0)
    history.write(1, 2, {"x": float("nan"), "y": 1.5, "z": None})
    history.close()
    assert records(tmp_path) == [
        {"stage": "a", "epoch": 1, "step": 2, "x": None, "y": 1.5, "z": None}
    ]


def test_tensorboard_keeps_the_epoch_it_resumes_from(tmp_path, monkeypatch):
    for host, start, steps in (("a", 0, (20, 40, 60)), ("b", 40, (60,))):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)  # in the file's name
        history = History(tmp_path, epochs.STAGE, start)
        for step in steps:
            history.write(step // 20, step, {host: 1.0})
            # on disk as soon as it is written: the checkpoint that follows counts on it
            assert epochs.board(tmp_path)[-1] == (host, step, 1.0)
        history.close()
    # TensorBoard hides what came after step 40, the last finished epoch
    assert epochs.board(tmp_path) == [("a", 20, 1.0), ("a", 40, 1.0), ("b", 60, 1.0)]
