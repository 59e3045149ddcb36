"""The tables and the page of a study made up by hand."""

import csv
import json

import pytest

from covjax.errors import InputError
from covjax.report import build_study_page, study_table


def score(value, low, high):
    return {
        "value": value,
        "n": 40,
        "interval": [low, high],
        "interval_method": "percentile bootstrap over 8 patients",
    }


def difference(value, low, high, p, adjusted):
    return score(value, low, high) | {"p_value": p, "p_holm": adjusted}


def variant(name, value, differences=None, runs=2):
    made = [
        {"seed": k, "fold": 0, "workdir": f"runs/{name}/seed{k}", "parameters": 373126,
         "best_epoch": 7, "train_seconds": 90.0, "dice_infected": value + k / 50,
         "dice_infected_per_image": None if k else value}
        for k in range(runs)
    ]  # fmt: skip
    scores = {
        "dice_infected_per_image": score(value, 0.1, 0.7),
        "dice_infected": score(value + 0.1, 0.2, 0.8),
    }
    one = {
        "name": name,
        "fields": {},
        "planned": 2,
        "runs": made,
        "scores": scores,
        "ms_per_slice": 12.34,
    }
    return one | ({"differences": differences} if differences else {})


@pytest.fixture
def folder(tmp_path):
    write_study(tmp_path)
    return tmp_path


def write_study(folder):
    """Writes a study of two variants, and the beginning of its first run."""
    apart = {
        "dice_infected_per_image": difference(-0.05, -0.12, 0.01, 0.08, 0.16),
        "dice_infected": difference(0.02, 0.01, 0.03, 0.0001, 0.0002),
    }
    variants = [variant("paper", 0.5), variant("max|<b>", 0.45, apart)]
    variants[1]["fields"] = {"segmenter.model.encoder_pooling": "max"}
    settings = {
        "data.source": "prlab21", "split.by": "patient", "split.folds": 2,
        "segmenter.input.size": [64, 48], "segmenter.epochs": 4,
        "seeds": [0, 1], "folds": [0], "slices": 1370, "patients": 8,
    }  # fmt: skip
    study = {
        "covjax": "0",
        "study": "pooling",
        "reference": "paper",
        "settings": settings,
        "failed": {},
        "variants": variants,
    }
    (folder / "study.json").write_text(json.dumps(study))
    first = folder / "runs" / "paper" / "seed0"
    first.mkdir(parents=True)
    (first / "splits.json").write_text('{"source": "prlab21", "by": "block"}')
    (first / "metrics.jsonl").write_text('{"stage": "segmenter", "epoch": 1}\n{')


def test_text(folder):
    head, _, paper, other = study_table(folder).splitlines()
    assert head.split("  ")[0] == "Variant" and "Minus paper" in head
    assert " ".join(paper.split()) == "paper 0.500 (0.100 to 0.700) 2"
    assert "-0.050 (-0.120 to 0.010)  0.160" in other


def test_differences_of_several_seeds_are_told_one_by_one(folder, undrawn):
    path = folder / "study.json"
    study = json.loads(path.read_text())
    for seeds, told in (([-0.07, None], "-0.070, undefined"), ([-0.05], None)):
        for one in study["variants"][1]["differences"].values():
            one["by_seed"] = seeds
        path.write_text(json.dumps(study))
        page = build_study_page(folder)
        markdown = (page.parent / "table.md").read_text()
        text = study_table(folder)
        assert [made.count("By seed") for made in (markdown, text)] == ([2, 1] if told else [0, 0])
        assert len({len(line.split(" | ")) for line in markdown.splitlines()}) == 1
        assert ("Each small dot is one seed" in page.read_text()) == bool(told)
        if told:
            assert (
                told in markdown and f"{told}  0.160" in text and page.read_text().count(told) == 2
            )


@pytest.mark.parametrize(
    ("folds", "told"), [(2, "2 (every slice is tested once per seed)"), (0, "none, one split")]
)
def test_page_of_all_folds(folder, undrawn, folds, told):
    path = folder / "study.json"
    study = json.loads(path.read_text())
    study["settings"] |= {"split.folds": folds, "folds": [*range(folds)]}
    path.write_text(json.dumps(study))
    text = build_study_page(folder).read_text()
    assert f"<dt>Folds</dt><dd>{told}" in text and "Folds run" not in text


def test_page_and_files(folder, undrawn):
    page = build_study_page(folder)
    text = page.read_text()
    assert (
        "max|&lt;b&gt;" in text and "<b>" not in text and "&lt;0.001" in text and "nan" not in text
    )
    assert (
        "64 x 48" in text
        and "1,370" in text
        and "<dt>Folds</dt><dd>2</dd><dt>Folds run</dt><dd>0</dd>" in text
    )
    rows = list(csv.DictReader((page.parent / "table.csv").read_text().splitlines()))
    assert [row["variant"] for row in rows] == ["paper", "max|<b>"]
    assert float(rows[1]["dice_infected_per_image_difference_low"]) == -0.12
    assert (
        rows[0]["dice_infected_p_holm"] == "" and float(rows[1]["dice_infected_p_holm"]) == 0.0002
    )
    assert (rows[1]["parameters"], rows[1]["runs"], float(rows[1]["ms_per_slice"])) == (
        "373126",
        "2",
        12.34,
    )
    markdown = (page.parent / "table.md").read_text().splitlines()
    assert len(markdown) == 4 and {line.replace("\\|", "").count("|") for line in markdown} == {13}
    for name in ("study_dice_infected", "study_differences_dice_infected_per_image"):
        assert (page.parent / f"{name}.csv").is_file() and (page.parent / f"{name}.png").is_file()


def test_what_has_no_interval_says_why_wherever_it_is_read(folder, undrawn):
    path = folder / "study.json"
    study = json.loads(path.read_text())
    few = "3 patients: fewer than 5"
    for one in (*(v["scores"] for v in study["variants"]), study["variants"][1]["differences"]):
        for score_of in one.values():
            score_of["no_interval"] = few
            del score_of["interval"], score_of["interval_method"]
    for one in study["variants"][1]["differences"].values():
        one["trainings"] = 1
    path.write_text(json.dumps(study))
    page = build_study_page(folder)
    rows = list(csv.DictReader((page.parent / "table.csv").read_text().splitlines()))
    assert page.read_text().count(f"no interval: {few}") == 6
    assert study_table(folder).splitlines()[4:] == [f"no interval: {few}", "p: 1 training each"]
    assert (page.parent / "table.md").read_text().count(f"(no interval: {few})") == 6
    assert [row["dice_infected_no_interval"] for row in rows] == [few, few]
    assert [row["dice_infected_trainings"] for row in rows] == ["", "1"]


@pytest.mark.parametrize(
    "content", [None, "{", "[]", '{"variants": 3}', '{"variants": [{"name": "a"}]}']
)
def test_no_study(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_text(content)
    for make in (study_table, build_study_page):
        with pytest.raises(InputError, match=r"study\.json") as caught:
            make(tmp_path)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()
