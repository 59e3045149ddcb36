"""A trained run scored on another labelled set."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from covjax.data.differences import Described, describe, grey_distance
from covjax.data.prepared.dataset import Prepared, prepare
from covjax.data.splits.splits import read_splits, split_indices
from covjax.errors import InputError
from covjax.report import build_report, summary_table
from covjax.runs.external import evaluate_on, learned_from
from covjax.settings import load_settings
from tests.result_files import summary


def write_set(folder: Path, data: Prepared, indices: np.ndarray) -> None:
    """Writes slices as the folder of pictures, masks and labels that a user would bring."""
    rows = []
    for i in indices:
        image, mask = data.decode(i)
        name = f"{data.ids[i]}.png"
        for kind, picture in (("images", image), ("masks", 255 * mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(folder / kind / name)
        rows.append(
            {"file": f"images/{name}", "label": int(data.labels[i]), "patient": data.patients[i]}
        )
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def brought(trained, tmp_path_factory):
    """(the run, fields of a set that holds the slices of its test split as files)."""
    folder = tmp_path_factory.mktemp("brought")
    run = shutil.copytree(trained[0], folder / "run")
    data = prepare(load_settings(run).data)
    write_set(folder / "set", data, split_indices(data, read_splits(run / "splits.json"), "test"))
    fields = {
        "source": "folder", "path": str(folder / "set"), "show_patients": True,
        "prepared_dir": str(folder / "prepared"),
    }  # fmt: skip
    return run, fields


@pytest.fixture(scope="module")
def scored(brought, tmp_path_factory):
    run, fields = brought
    output = tmp_path_factory.mktemp("scored") / "out"
    evaluate_on(run, fields, output)
    return output


def test_the_same_slices_brought_as_files_have_the_same_scores(brought, scored):
    ours = summary(scored)
    own = summary(brought[0])
    for stage in ("classifier", "segmenter", "two_stages"):
        assert ours[stage]["scores"] == own[stage]["scores"], stage
    assert ours["classifier"]["checkpoint"] == own["classifier"]["checkpoint"]


def test_the_page_says_how_far_the_set_is_from_the_training(scored):
    record = json.loads((scored / "external.json").read_text())
    assert record["run"] == "run"
    assert record["training"]["slices"] > record["set"]["slices"] > 0
    assert record["grey_distance"] > 0
    build_report(scored)
    page = (scored / "report" / "index.html").read_text()
    assert "a set that it did not learn from" in page
    assert f"differ by {record['grey_distance']:.1f} of 255 on average" in summary_table(scored)
    assert "what it learned from is not above" in (scored / "report/model_card.md").read_text()


def test_slices_that_the_run_learned_from_are_refused_until_they_are_taken_out(brought, tmp_path):
    run = shutil.copytree(brought[0], tmp_path / "run")
    folder = shutil.copytree(brought[1]["path"], tmp_path / "set")
    fields = brought[1] | {"path": str(folder)}
    splits = json.loads((run / "splits.json").read_text())
    evaluate_on(run, fields, tmp_path / "before")
    origins = json.loads((tmp_path / "before" / "splits.json").read_text())
    splits["origins"]["val"][0] = origins["origins"]["test"][2]
    (run / "splits.json").write_text(json.dumps(splits))
    learned = re.escape(origins["test"][2])
    with pytest.raises(InputError, match=f"learned from 1 of these .*, first {learned}; take"):
        evaluate_on(run, fields, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    name = f"{origins['test'][2]}.png"
    rows = (folder / "index.csv").read_text().splitlines()
    (folder / "index.csv").write_text("\n".join(row for row in rows if name not in row))
    for kind in ("images", "masks"):
        (folder / kind / name).unlink()
    evaluate_on(run, fields, tmp_path / "out")
    assert summary(tmp_path / "out")["classifier"]["n"] == len(origins["test"]) - 1


def test_what_an_earlier_run_learned_from_counts_too(brought, tmp_path, caplog):
    run = shutil.copytree(brought[0], tmp_path / "run")
    earlier = shutil.copytree(brought[0], tmp_path / "earlier")
    splits = json.loads((earlier / "splits.json").read_text())
    splits["origins"]["train"][0] = "of the earlier run"
    (earlier / "splits.json").write_text(json.dumps(splits))
    config = json.loads((run / "config.json").read_text())
    config["segmenter"]["init"]["run"] = str(earlier)
    (run / "config.json").write_text(json.dumps(config))
    ours = read_splits(run / "splits.json")
    assert "of the earlier run" in learned_from(run, load_settings(run), ours)
    shutil.rmtree(earlier)
    assert "of the earlier run" not in learned_from(run, load_settings(run), ours)
    assert "is gone, so nothing tells" in caplog.text


def test_a_set_without_masks_scores_the_classifier_alone(brought, scored, tmp_path):
    folder = shutil.copytree(brought[1]["path"], tmp_path / "set")
    shutil.rmtree(folder / "masks")
    evaluate_on(brought[0], brought[1] | {"path": str(folder)}, tmp_path / "out")
    found = summary(tmp_path / "out")
    assert "segmenter" not in found and "two_stages" not in found
    assert found["classifier"]["scores"] == summary(scored)["classifier"]["scores"]


def test_pictures_for_a_run_on_hu_are_refused_until_the_window_is_named(brought, tmp_path):
    run = shutil.copytree(brought[0], tmp_path / "run")
    (run / "intensity.json").write_text('{"values": ["hu"], "window": [-600, 1500]}')
    with pytest.raises(InputError, match="use --window=as_is"):
        evaluate_on(run, brought[1], tmp_path / "out")
    evaluate_on(run, brought[1], tmp_path / "out", window="as_is")
    assert summary(tmp_path / "out")["classifier"]["n"] > 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": "lung"}, "data.window: .* use --window"),
        ({"spacing": 1.0}, "data.spacing: .* leave it out"),
        ({"lung_crop": True}, "data.lung_crop: .* leave it out"),
        ({"classes": "1:ground_glass,2:consolidation"}, "data.classes: the run knows background"),
        ({"path": "nowhere", "source": "folder"}, "data.path: nowhere is not a folder"),
    ],
)
def test_fields_that_cannot_be_used_are_named(brought, tmp_path, fields, message):
    with pytest.raises(InputError, match=message):
        evaluate_on(brought[0], fields, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_distance_of_grey_values_is_how_far_they_were_moved():
    greys = np.zeros((2, 256))
    greys[0, [10, 50]] = 0.5
    greys[1, [30, 70]] = 0.5
    one, other = (Described({}, row) for row in greys)
    assert grey_distance(one, other) == pytest.approx(20)


def test_a_set_is_described_by_its_slices(brought):
    data = prepare(load_settings(brought[0]).data)
    indices = np.array([0, len(data) - 1])
    found = describe(data, indices)
    pixels = np.concatenate([data.decode(i)[0].ravel() for i in indices]).astype(float)
    assert found.facts["grey_mean"] == pytest.approx(pixels.mean())
    assert found.facts["grey_sd"] == pytest.approx(pixels.std())
    assert found.facts["grey_median"] == pytest.approx(np.median(pixels), abs=1)
    assert found.facts["infected_slices_share"] == data.labels[indices].mean()
    assert found.facts["spacing_mm_median"] is None
