"""Runs made up for the tests of the report, written file by file as training and evaluation write
them.
"""

import csv
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_auc_score, roc_curve

PATIENTS = ["P01", "P02", "P03"]
SLICES = [
    {"id": f"P0{i % 3 + 1}_{i:04d}", "patient": PATIENTS[i % 3], "label": int(i >= 80)}
    for i in range(166)
]
COLUMNS = (
    "probability",
    "called",
    "dice",
    "iou",
    "true_share",
    "predicted_share",
    "two_stages_dice",
    "two_stages_predicted_share",
)


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_csv(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_stage(workdir: Path, split: str, stage: str, section: dict) -> None:
    """Adds the section of a stage to the summary of a split."""
    path = workdir / "results" / split / "summary.json"
    summary = (
        json.loads(path.read_text())
        if path.is_file()
        else {"definitions": 1, "split": split, "options": {}}
    )
    write_json(path, summary | {stage: section})


def write_images(
    workdir: Path, split: str, columns: dict[str, list], seen: slice = slice(None)
) -> None:
    """Adds columns of the slices that a stage saw to the table of a split."""
    path = workdir / "results" / split / "per_image.csv"
    rows = [
        row | {"truth": f"{k:08x}"} | dict.fromkeys(COLUMNS, "") for k, row in enumerate(SLICES)
    ]
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    for name, values in columns.items():
        for row, value in zip(rows[seen], values, strict=True):
            row[name] = value
    write_csv(path, rows)


def write_arrays(workdir: Path, split: str = "test", first_id: str = "P01_0001") -> None:
    """Writes what a classifier's features and heat maps are kept in."""
    random = np.random.default_rng(3)
    label = np.array([row["label"] for row in SLICES])
    ids = np.array([row["id"] for row in SLICES])
    features = random.normal(size=(166, 12)) + 2 * label[:, None]
    folder = workdir / "results" / split
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "features.npz", features=features.astype(np.float32), label=label, id=ids)
    np.savez(
        folder / "explain.npz",
        shape=np.array([(96, 96)] * 9),
        id=np.array([first_id, "P02_0009"]),
        image=random.integers(0, 255, (2, 40, 48)).astype(np.uint8),
        heat=np.stack([disc((20, 20), 9, 48)[:40], disc((9, 30), 5, 48)[:40]]).astype(np.float32),
        label=np.array([1, 0]),
        probability=np.array([0.9, 0.25]),
        called=np.array([True, False]),
    )


def write_run(workdir: Path, source: str = "prlab21", by: str = "patient") -> None:
    """Writes what is known before any score: configuration, environment, splits, training history,
    timing.
    """
    write_json(
        workdir / "config.json",
        {
            "seed": 7,
            "data": {"source": source, "path": "slices"},
            "split": {"by": by, "shares": [0.6, 0.2, 0.2]},
            "classifier": {
                "model": {"name": "cov_ctnet"},
                "epochs": 12,
            },
            "segmenter": {"model": {"name": "cov_raseg"}, "epochs": 12},
        },
    )
    write_json(
        workdir / "environment.json",
        {
            "covjax": "0.1.0",
            "python": "3.11.2",
            "jax": "0.10.2",
            "flax": "0.11.0",
            "platform": "Linux x86_64",
            "devices": ["cpu:0", "cpu:1"],
            "cpu_count": 2,
        },
    )
    write_json(
        workdir / "splits.json",
        {
            "source": source,
            "fingerprint": "5f0c",
            "by": by,
            "seed": 7,
            "shares": [0.6, 0.2, 0.2],
            "train": ["a"],
            "val": ["b"],
            "test": ["c"],
            "patients": {"train": ["P04", "P05", "P06", "P07"], "val": ["P08"], "test": PATIENTS},
            "slices": {
                "train": {"healthy": 210, "infected": 190},
                "val": {"healthy": 60, "infected": 55},
                "test": {"healthy": 80, "infected": 86},
            },
        },
    )
    lines = []
    for stage, score, ending in (
        ("classifier", "mcc", ""),
        ("segmenter", "dice_infected", "_at_network_size"),
    ):
        for epoch in range(1, 13):
            lines.append(
                json.dumps(
                    {
                        "stage": stage,
                        "epoch": epoch,
                        "step": 10 * epoch,
                        "learning_rate": 1e-3,
                        "seconds": 2.5,
                        "train/loss": 0.7 * 0.8**epoch,
                        "val/loss": 0.7 * 0.85**epoch + 0.002 * epoch**1.5,
                        f"val/{score}{ending}": None if epoch == 1 else 0.9 - 0.7 * 0.75**epoch,
                    }
                )
            )
    (workdir / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    stage = {
        "train_seconds": 93.25,
        "epochs": 12,
        "steps": 120,
        "slices_per_second_train": 51.4,
        "slices_per_second_eval": 160.0,
        "compile_seconds": 8.1,
        "peak_memory_mb": None,
        "best_epoch": 9,
        "parameters": 1234567,
    }
    write_json(workdir / "results" / "timing.json", {"classifier": stage, "segmenter": stage})


def write_classifier(workdir: Path, split: str = "test") -> tuple[np.ndarray, np.ndarray]:
    """Writes a classifier's result and returns the labels and probabilities that it came from."""
    random = np.random.default_rng(0)
    label = np.repeat([0, 1], [80, 86])
    probability = 1 / (1 + np.exp(-random.normal(2.4 * label - 1.2, 1.2)))
    predicted = probability >= 0.5
    confusion = [[int(np.sum((label == t) & (predicted == p))) for p in (0, 1)] for t in (0, 1)]
    fpr, tpr, roc_threshold = roc_curve(label, probability)
    precision, recall, pr_threshold = precision_recall_curve(label, probability)
    write_stage(
        workdir,
        split,
        "classifier",
        {
            "classes": ["healthy", "infected"],
            "threshold": 0.5,
            "n": 166,
            "n_patients": 3,
            "confusion": confusion,
            "scores": {
                "accuracy": {
                    "value": float(np.mean(predicted == label)),
                    "n": 166,
                    "interval": [0.741, 0.86],
                },
                "sensitivity": {"value": confusion[1][1] / 86, "n": 86, "interval": [0.72, 0.88]},
                "specificity": {"value": confusion[0][0] / 80, "n": 80, "interval": [0.7, 0.87]},
                "roc_auc": {
                    "value": roc_auc_score(label, probability),
                    "n": 166,
                    "interval": [0.86, 0.95],
                },
                "mcc": {"value": 0.6138, "n": 166},
                "f1_infected": {"value": 0.88, "n": 166},
                "brier": {"value": None, "n": 0, "reason": "no <valid> probabilities"},
            },
            "curves": {
                "roc": {
                    "false_positive_rate": fpr.tolist(),
                    "true_positive_rate": tpr.tolist(),
                    "threshold": [None, *roc_threshold[1:].tolist()],
                },
                "precision_recall": {
                    "recall": recall.tolist(),
                    "precision": precision.tolist(),
                    "threshold": pr_threshold.tolist(),
                },
            },
        },
    )
    write_images(
        workdir,
        split,
        {"probability": probability.tolist(), "called": predicted.astype(int).tolist()},
    )
    return label, probability


def disc(centre: tuple[float, float], radius: float, size: int = 96) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def write_segmenter(workdir: Path, split: str = "test", first_id: str = "P01_0001") -> None:
    random = np.random.default_rng(1)
    write_stage(
        workdir,
        split,
        "segmenter",
        {
            "classes": ["background", "infected"],
            "n": 86,
            "n_patients": 3,
            "slices": "infected",
            "confusion": [[5_400_000, 61_000], [48_000, 212_000]],
            "scores": {
                "dice_infected": {"value": 0.7955, "n": 86, "interval": [0.75, 0.83]},
                "iou_infected": {"value": 0.6604, "n": 86},
                "dice_infected_per_image": {"value": 0.741, "n": 85, "interval": [0.7, 0.78]},
                "global_accuracy": {"value": 0.981, "n": 86},
                "mean_iou": {"value": 0.82, "n": 86},
            },
        },
    )
    true = random.uniform(0.005, 0.2, 86)
    columns = {
        "dice": [
            "" if index == 3 else f"{dice:.4f}" for index, dice in enumerate(random.beta(6, 2, 86))
        ],
        "true_share": true.tolist(),
        "predicted_share": (true * random.normal(1, 0.2, 86)).tolist(),
    }
    write_images(workdir, split, columns, slice(80, None))
    ranks = ["best", "best", "best", "median", "median", "median", "worst", "worst", "worst"]
    lung = 0.2 + 0.5 * (~disc((50, 28), 20) & ~disc((50, 68), 20)) * disc((48, 48), 46)
    image = np.stack(
        [(255 * np.clip(lung + random.normal(0, 0.04, lung.shape), 0, 1)).astype(np.uint8)] * 9
    )
    truth = np.stack([disc((52, 26), 9)] * 9).astype(np.uint8)
    truth[4] = 0
    shift = [0, 1, 1, 3, 3, 4, 8, 12, 60]
    predicted = np.stack([disc((52, 26 + by), 9 - by % 4) for by in shift]).astype(np.uint8)
    np.savez(
        workdir / "results" / split / "examples.npz",
        image=image,
        truth=truth,
        predicted=predicted,
        shape=np.array([(96, 96)] * 9),
        id=np.array([first_id, *(f"P02_{place:04d}" for place in range(1, 9))]),
        dice=np.array([0.97, 0.95, 0.94, 0.78, np.nan, 0.76, 0.41, 0.22, 0.0]),
        rank=np.array(ranks),
    )


def write_two_stages(workdir: Path, split: str = "test", patient: str = "P01") -> None:
    random = np.random.default_rng(2)
    write_stage(
        workdir,
        split,
        "two_stages",
        {
            "threshold": 0.5,
            "n": 166,
            "n_patients": 3,
            "confusion": [[10_500_000, 75_000], [62_000, 198_000]],
            "scores": {
                "dice_infected": {"value": 0.743, "n": 166, "interval": [0.69, 0.79]},
                "dice_infected_per_image": {"value": 0.69, "n": 86},
                "missed_infected_slices": {"value": 9 / 86, "n": 86, "interval": [0.056, 0.187]},
                "false_alarm_slices": {"value": 0.125, "n": 80},
                "share_mean_absolute_error": {"value": 0.0004, "n": 166},
            },
        },
    )
    label = np.array([row["label"] for row in SLICES])
    called = (label == 1) != (np.arange(166) % 11 == 0)
    true = label * random.uniform(0.005, 0.2, 166)
    predicted = called * np.where(
        label, true * random.normal(1, 0.2, 166), random.uniform(0, 0.02, 166)
    )
    columns = {
        "called": called.astype(int).tolist(),
        "two_stages_dice": [0.8 if infected else "" for infected in label],
        "true_share": true.tolist(),
        "two_stages_predicted_share": predicted.tolist(),
    }
    write_images(workdir, split, columns)
    write_csv(
        workdir / "results" / split / "per_patient.csv",
        [
            {
                "patient": name,
                "slices": 55,
                "infected_slices": infected,
                "called_infected": infected + 2,
                "marked_slices": 55,
                "true_share": 0.0412 if infected else 0,
                "scored_slices": 55,
                "scored_true_share": 0.0412 if infected else 0,
                "predicted_share": 0.0391,
                "dice": dice,
            }
            for name, infected, dice in ((patient, 40, 0.81), ("P02", 46, 0.704), ("P03", 0, ""))
        ],
    )


def write_full(workdir: Path) -> None:
    write_run(workdir)
    for split in ("val", "test"):
        write_classifier(workdir, split)
        write_segmenter(workdir, split)
        write_two_stages(workdir, split)
        write_arrays(workdir, split)


class Page(HTMLParser):
    """Collects the headings, links, resources and visible text of a page and checks that its tags
    nest.
    """

    VOID = {"meta", "img", "br", "link", "input", "hr"}

    def __init__(self, path: Path):
        super().__init__()
        self.open = []
        self.headings = []
        self.targets = []
        self.ids = []
        self.texts = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        assert not self.open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attrs):
        self.targets += [
            value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")
        ]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] != "style":
            self.texts.append(data)
