"""The same data in two places: one study. And what runs on them write names no patient."""

import json
import shutil

import numpy as np
import pytest

from covjax.errors import InputError
from covjax.report import build_audit_page, build_report
from covjax.runs.audit import audit_source
from covjax.runs.evaluate import evaluate_run
from covjax.runs.initialise import check_unseen
from covjax.runs.pool import pool_runs
from covjax.runs.train import train_run
from covjax.settings import read_settings
from tests.data.written import write_class_scans
from tests.trained import tiny_config

NAME = "janedoe"


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """(folder, runs): the folds of a segmenter, each on its own copy of the data, prepared in its
    own place.
    """
    folder = tmp_path_factory.mktemp("copied")
    write_class_scans(folder / "written", slices=4)
    for kind in ("images", "masks"):
        (folder / "set0" / kind).mkdir(parents=True)
        for path in sorted((folder / "written" / kind).iterdir()):
            path.rename(folder / "set0" / kind / f"{NAME}{path.name}")
    rows = [f"{NAME}p{k},{NAME} {k // 2}" for k in range(8)]
    (folder / "set0" / "index.csv").write_text("\n".join(["id,patient", *rows]))
    (folder / "set0" / "images" / f"{NAME}.mha").write_text("")
    shutil.copytree(folder / "set0", folder / "set1")  # copies have other times
    (folder / "set1" / ".DS_Store").write_text("")
    for k in range(2):
        train_run(read_settings(config(folder, k)), folder / f"run{k}")
        evaluate_run(folder / f"run{k}", save_predictions="png")
    return folder, [folder / f"run{k}" for k in range(2)]


def config(folder, k):
    made = tiny_config(folder)
    with made.unlocked():
        del made.classifier
        classes = "1:infected,2:infected,7:infected"
        made.data.update(
            source="nifti", path=str(folder / f"set{k}"), prepared_dir=str(folder / f"prepared{k}")
        )
        made.data.update(classes=classes)
        made.split.update(folds=2, fold=k)
        made.segmenter.update(epochs=1, batch_size=2)
    return made


def test_folds_on_copies_of_the_data_pool(folds):
    folder, runs = folds
    pool_runs(runs, folder / "pooled")
    tested = [json.loads((run / "splits.json").read_text())["test"] for run in runs]
    pooled = json.loads((folder / "pooled" / "splits.json").read_text())["test"]
    assert sorted(pooled) == sorted([*tested[0], *tested[1]]) and len(set(pooled)) == 32
    assert "MetaImage" in build_report(folder / "pooled").read_text(encoding="utf-8")


def test_what_an_earlier_run_learned_is_known_in_a_copy_under_other_settings(folds, tmp_path):
    folder, runs = folds
    splits = json.loads((runs[1] / "splits.json").read_text()) | {"fingerprint": "other settings"}
    renamed = {
        split: [f"shown {name}" for name in splits[split]] for split in ("train", "val", "test")
    }
    with pytest.raises(
        InputError, match="learned from .* slices of this run's val and test splits"
    ):
        check_unseen("segmenter", splits | renamed, runs[0])


def test_nothing_that_is_written_names_a_patient(folds):
    folder, runs = folds
    (folder / "set0" / "images" / f"{NAME}p3.nii.gz").write_bytes(b"damaged")
    try:
        with pytest.raises(InputError, match=f"{NAME}p3.nii.gz"):  # who sees to it is start_text
            audit_source(read_settings(config(folder, 0)), folder / "audit")
        shutil.copy(folder / "set1" / "images" / f"{NAME}p3.nii.gz", folder / "set0" / "images")
        cut = (folder / "set0" / "masks" / f"{NAME}p3.nii.gz").read_bytes()
        (folder / "set0" / "masks" / f"{NAME}p3.nii.gz").write_bytes(cut[:400])
        audit_source(read_settings(config(folder, 0)), folder / "audit")
    finally:
        for kind in ("images", "masks"):
            shutil.copy(folder / "set1" / kind / f"{NAME}p3.nii.gz", folder / "set0" / kind)
    build_audit_page(folder / "audit")
    findings = (folder / "audit" / "findings.csv").read_text()
    assert findings.count("unreadable,serious") == 4 and "left_out,note" in findings
    for run in runs:
        assert "MetaImage" in build_report(run).read_text(encoding="utf-8")
    for path in (path for top in (*runs, folder / "audit") for path in top.rglob("*")):
        assert NAME not in str(path.relative_to(folder))
        if path.is_file():
            assert NAME.encode() not in path.read_bytes(), path
            if path.suffix == ".npz":
                with np.load(path) as arrays:
                    assert not any(
                        NAME in str(values)
                        for values in arrays.values()
                        if values.dtype.kind in "US"
                    )


def test_a_run_follows_its_data_to_another_place(folds):
    folder, runs = folds
    workdir = shutil.copytree(runs[0], folder / "moved")
    table = (workdir / "results" / "test" / "per_image.csv").read_bytes()
    settings = json.loads((workdir / "config.json").read_text())
    settings["data"] |= {"path": str(folder / "gone"), "prepared_dir": str(folder / "anew")}
    (workdir / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="data.path: .*gone is not a folder.*--data_path in eval"):
        evaluate_run(workdir)
    shutil.copytree(folder / "set1", folder / "set2")
    for kind in ("images", "masks"):
        place = folder / "set2" / kind
        shutil.copy(place / f"{NAME}p6.nii.gz", place / f"{NAME}p7.nii.gz")
    with pytest.raises(InputError, match="set2 does not hold the data that this run was"):
        evaluate_run(workdir, data_path=folder / "set2")
    evaluate_run(workdir, data_path=folder / "set1")
    assert (workdir / "results" / "test" / "per_image.csv").read_bytes() == table
    train_run(read_settings(config(folder, 0)), workdir)
    assert json.loads((workdir / "config.json").read_text())["data"]["path"] == str(folder / "set0")
