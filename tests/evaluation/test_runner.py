"""Running a stage over slices."""

from types import SimpleNamespace

import numpy as np

from covjax.evaluation import runner


class Reader:
    """Slices of which nothing is read."""

    indices = np.arange(1)

    def __len__(self):
        return len(self.indices)


def test_a_runner_makes_its_programs_once(monkeypatch):
    """Examples of the report, and stage 2 behind stage 1, must not be compiled again."""
    made = []

    def make_predictor(*given):
        made.append(given)
        return lambda variables, batches, keep: iter([{"loss": np.zeros(1), "weight": np.ones(1)}])

    monkeypatch.setattr(runner, "make_predictor", make_predictor)
    monkeypatch.setattr(runner, "eval_batches", lambda reader, batch_size: ())
    stage = SimpleNamespace(name="a", task=SimpleNamespace(keep=()))
    one = runner.Runner(stage, {}, batch_size=1)
    for _ in range(3):
        rows, _ = one.run(Reader(), ())
        assert set(rows) == {"loss", "weight"}
    assert len(made) == 1
