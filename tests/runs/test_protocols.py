"""The paper's protocol and honest ones on made-up figures, and on the paper's own where they are at
hand.
"""

import json

import numpy as np
import pytest
from PIL import Image

from covjax.configs import cov_raseg
from covjax.data.loader import SliceReader
from covjax.data.prepared.dataset import prepare
from covjax.data.sources.prlab21 import PRLAB21_CT
from covjax.data.views import ViewSettings
from covjax.errors import InputError
from covjax.metrics import segmentation_scores
from covjax.report import build_protocols_page, protocols_table
from covjax.runs.protocols import margin_confusions, run_protocols
from covjax.settings import read_settings
from tests import places

REAL = places.REAL / "prlab21"
LESION = 400  # pixels


def figures(root, patients=5, each=4):
    """White 304x304 figures with a CT in them; half the slices infected, as in the paper's
    release.
    """
    rng = np.random.default_rng(0)
    lines = ["id,label,patient"]
    for i in range(patients * each):
        figure = np.full((304, 304), 255, np.uint8)
        mask = np.full((304, 304), 255, np.uint8)
        figure[PRLAB21_CT] = rng.integers(0, 120, (248, 223))
        mask[PRLAB21_CT] = 0
        mask[100:120, 60 + i : 80 + i] = 255
        figure[100:120, 60 + i : 80 + i] += np.uint8(100)
        for kind, picture in (("images", figure), ("masks", mask))[: 1 + i % 2]:
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(root / kind / f"s{i:02d}.png")
        lines.append(f"s{i:02d},{i % 2},p{i // each}")
    (root / "index.csv").write_text("\n".join(lines))
    return root


def config_for(path, prepared, size=(32, 32)):
    config = cov_raseg.get_config()
    with config.unlocked():
        config.data.update(source="prlab21", path=str(path), prepared_dir=str(prepared))
        config.segmenter.update(epochs=1, batch_size=2)
        config.segmenter.model.features = 2
        config.segmenter.input.size = size
    return config


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    config = config_for(figures(folder / "data"), folder / "prepared")
    run_protocols(read_settings(config), folder / "out")
    return folder / "out", config


def rows(output):
    return {row["name"]: row for row in json.loads((output / "protocols.json").read_text())["rows"]}


def test_every_protocol_is_trained_and_scored_on_its_own_slices(done):
    output, _ = done
    for name, (frame, by) in {
        "paper": ("full", "slice"), "margin_ignored": ("ignore_margin", "slice"),
        "honest": ("ct", "patient")
    }.items():  # fmt: skip
        config = json.loads((output / name / "config.json").read_text())
        assert (config["data"]["frame"], config["split"]["by"]) == (
            frame,
            by,
        ) and "classifier" not in config
        splits = json.loads((output / name / "splits.json").read_text())
        infected = [s for s in splits["test"] if int(s[1:]) % 2]
        assert rows(output)[name]["slices"] == len(infected)
        summary = json.loads((output / name / "results" / "test" / "summary.json").read_text())[
            "segmenter"
        ]["scores"]
        for score, value in rows(output)[name]["scores"].items():
            assert value["value"] == pytest.approx(summary[score]["value"], nan_ok=True)
    assert rows(output)["honest"]["unseen"] and not rows(output)["paper"]["unseen"]


def test_ignored_pixels_count_in_no_score_and_no_loss(done):
    output, _ = done
    counts = json.loads((output / "margin_ignored" / "statistics_segmenter.json").read_text())[
        "class_counts"
    ]
    train = json.loads((output / "margin_ignored" / "splits.json").read_text())["slices"]["train"][
        "infected"
    ]
    inside = np.asarray(
        Image.fromarray(_ct_mask()).resize((32, 32), Image.Resampling.NEAREST)
    ).sum()
    assert sum(counts) == train * inside
    summary = json.loads(
        (output / "margin_ignored" / "results" / "test" / "summary.json").read_text()
    )["segmenter"]
    assert (
        np.sum(summary["confusion"]) == rows(output)["margin_ignored"]["slices"] * _ct_mask().sum()
    )


def _ct_mask():
    mask = np.zeros((304, 304), np.uint8)
    mask[PRLAB21_CT] = 1
    return mask


def test_calling_the_margin_infected_by_hand(tmp_path):
    config = config_for(figures(tmp_path / "data", patients=1), tmp_path / "prepared").data
    with config.unlocked():
        config.frame = "full"
    data = prepare(config)
    reader = SliceReader(
        data, np.flatnonzero(data.labels), ViewSettings((304, 304), (304, 304)), cache=False
    )
    margin = 304 * 304 - 248 * 223
    ct = 248 * 223
    np.testing.assert_array_equal(
        margin_confusions(reader), [[[ct - LESION, 0], [LESION, margin]]] * 2
    )


def test_the_margin_alone_scores_what_the_paper_calls_a_result(tmp_path):
    """On all 370 infected slices, at their own size."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} absent; set COVJAX_TEST_DATA to run this on the paper's slices")
    config = config_for(REAL, tmp_path).data
    with config.unlocked():
        config.frame = "full"
    data = prepare(config)
    reader = SliceReader(
        data, np.flatnonzero(data.labels), ViewSettings((304, 304), (304, 304)), cache=False
    )
    scores = segmentation_scores(margin_confusions(reader), ("background", "infected"))
    assert scores["iou_infected"]["value"] == pytest.approx(0.949, abs=0.001)
    assert scores["iou_background"]["value"] == pytest.approx(0.965, abs=0.001)


def test_finished_runs_are_not_repeated(done):
    output, config = done
    before = {
        name: (output / name / "metrics.jsonl").read_text()
        for name in ("paper", "margin_ignored", "honest")
    }
    table = json.loads((output / "protocols.json").read_text())
    run_protocols(read_settings(config), output)
    assert before == {name: (output / name / "metrics.jsonl").read_text() for name in before}
    assert json.loads((output / "protocols.json").read_text()) == table


def test_page_and_table(done):
    output, _ = done
    text = build_protocols_page(output).read_text()
    assert "data:image/png" in text and "Why 98.7 % IoU means little" in text and "nan" not in text
    assert (output / "protocols.png").is_file() and (output / "protocols.csv").read_text().count(
        "\n"
    ) == 6
    assert len(protocols_table(output).splitlines()) == 6


def test_what_cannot_be_compared(tmp_path):
    config = config_for(tmp_path, tmp_path / "prepared")
    with config.unlocked():
        config.data.source = "phantom"
    with pytest.raises(InputError, match="prlab21"):
        run_protocols(read_settings(config), tmp_path / "out")
    for content, words in (
        (None, "holds no protocols.json"),
        ('{"rows": 3}', "protocols.json: damaged"),
    ):
        if content:
            (tmp_path / "protocols.json").write_text(content)
        with pytest.raises(InputError, match=words):
            build_protocols_page(tmp_path)
    assert not (tmp_path / "out").exists() and not (tmp_path / "index.html").exists()
