"""What covjax wrote and reads again, beside the files of a run: studies, audits, screenings, .."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from covjax import plugins
from covjax.data.contents import digests
from covjax.evaluation.paired import paired_differences
from covjax.plugins import Plugin, check_plugins, record_plugins
from covjax.report import (
    audit_table,
    build_audit_page,
    build_comparison,
    build_protocols_page,
    build_screening,
    build_study_page,
    comparison_table,
    protocols_table,
    study_table,
)
from covjax.report.protocols import TITLES
from covjax.runs.calibrate import read_calibration
from covjax.scores import PROTOCOLS
from covjax.screening import screen as screening
from covjax.screening.screener import Screener
from covjax.stages.settings import ClassifierSettings
from tests.attacks.mutations import BYTES, JSON, TEXT, Kind, Mutation
from tests.data.written import scan, write_nifti
from tests.report import test_audit
from tests.report.test_study import score, write_study

ROW = {"run": "paper", "frame": "ct", "split": "slice", "unseen": True, "slices": 9, "patients": 3}
CALIBRATION = {
    "checkpoint": "c", "temperature": 1.5, "threshold_log_odds": 0.3, "threshold_rule": "youden",
    "n": 9, "separable": True,
}  # fmt: skip


def text_of(folder: Path) -> str:
    """Returns a hash of all texts of a folder."""
    texts = [path for path in sorted(folder.rglob("*")) if path.suffix in (".html", ".csv", ".md")]
    return hashlib.sha256(b"|".join(path.read_bytes() for path in texts)).hexdigest()


def _mutations(path: Path) -> dict[str, Mutation]:
    return {".json": JSON, ".csv": TEXT}.get(path.suffix, BYTES)


def _page(
    name: str, folder: Path, build: Callable[[Path], Path], table: Callable[[Path], str]
) -> dict[str, Kind]:
    """Returns the files that a page is made of; `folder` holds nothing else."""

    def read(_: Path) -> str:
        with mock.patch.object(Figure, "savefig"):  # which takes most of the time
            return table(folder) + text_of(build(folder).parent)

    files = [path for path in folder.rglob("*") if path.suffix in (".json", ".npz", ".csv")]
    return {
        f"{name}/{path.name}": Kind(path, read, _mutations(path), place=folder) for path in files
    }


def _protocols(folder: Path) -> None:
    scores = {name: score(0.5, 0.4, 0.6) for name in PROTOCOLS}
    record = {
        "settings": {"size": [32, 32], "epochs": 2, "seed": 0},
        "rows": [{"name": name, **ROW, "scores": scores} for name in TITLES],
    }
    (folder / "protocols.json").write_text(json.dumps(record))


def written_kinds(root: Path) -> dict[str, Kind]:
    """Returns what needs no training."""
    for name in ("study", "audit", "protocols", "run", "files"):
        (root / name).mkdir(parents=True)
    write_study(root / "study")
    test_audit.write(root / "audit")
    _protocols(root / "protocols")
    kinds = (
        _page("study", root / "study", build_study_page, study_table)
        | _page("audit", root / "audit", build_audit_page, audit_table)
        | _page("protocols", root / "protocols", build_protocols_page, protocols_table)
    )
    del kinds["audit/findings.csv"]  # which is for other readers

    loaded = [Plugin("one.py", "one.py", {"one.py": b"a = 1"}, False)]
    with mock.patch.object(plugins, "LOADED", loaded):
        record_plugins(root / "run")

    def plugged(_: Path) -> None:
        with mock.patch.object(plugins, "LOADED", loaded):
            check_plugins(root / "run")

    (root / "run" / "calibration.json").write_text(json.dumps(CALIBRATION))
    asks = ClassifierSettings(calibration="temperature")
    files = [root / "files" / f"{k}.png" for k in range(3)]
    for file in files:
        file.write_bytes(file.name.encode())
    digests(root / "files", files, root / "memory")
    (memory,) = (root / "memory").iterdir()
    return kinds | {
        "plugins.json": Kind(root / "run" / "plugins.json", plugged, JSON),
        "calibration.json": Kind(
            root / "run" / "calibration.json", lambda _: read_calibration(asks, root / "run"), JSON
        ),
        "digests": Kind(memory, lambda _: digests(root / "files", files, root / "memory"), JSON),
    }


def compared_kinds(workdir: Path, root: Path) -> dict[str, Kind]:
    """Returns the files of a run that comparisons read."""
    other = shutil.copytree(workdir, root / "other")

    def compared(_: Path) -> str:
        runs = [workdir, other]
        with mock.patch.object(Figure, "savefig"):
            table = comparison_table(runs, "test")
            differences = paired_differences(runs, "test")
            page = build_comparison(runs, "test", root / "comparison", differences)
        return table + text_of(page.parent)

    names = ("summary.json", "per_image.csv", "rows.npz")
    paths = [other / "config.json", *(other / "results" / "test" / name for name in names)]
    return {
        f"compared/{path.name}": Kind(path, compared, _mutations(path), place=Path(other.name))
        for path in paths
    }


def screened_kinds(workdir: Path, root: Path) -> dict[str, Kind]:
    """Returns what a screening wrote, and what a stopped one left."""
    given = root / "given"
    given.mkdir(parents=True)
    write_nifti(given / "a.nii.gz", scan())
    for k in range(3):
        (given / "pictures").mkdir(exist_ok=True)
        Image.fromarray(np.uint8(scan()[k] % 256)).save(given / "pictures" / f"{k}.png")
    screener = Screener.from_workdir(workdir, 2)
    loaded = SimpleNamespace(from_workdir=lambda *_: screener)

    def screened(output: Path) -> None:
        with mock.patch.object(screening, "Screener", loaded):
            screening.screen(workdir, given, output, 2, window="lung")

    class Stopped(Exception):
        pass

    stopped = root / "stopped.partial"
    stopping = mock.patch.object(screening, "_finish", side_effect=Stopped)
    with stopping, contextlib.suppress(Stopped):
        screened(root / "stopped")

    def again(path: Path) -> str:
        for name in ("again", "again.partial"):
            shutil.rmtree(root / name, ignore_errors=True)
        shutil.copytree(stopped, root / "again.partial")
        screened(root / "again")
        return text_of(root / "again") + (root / "again" / "screening.json").read_text()

    kinds = {
        f"stopped/{path.relative_to(stopped).parts[0]}": Kind(path, again, JSON, checked=True)
        for path in sorted(stopped.rglob("*.json"))
    }
    screened(root / "screened")
    return kinds | _page("screened", root / "screened", build_screening, lambda _: "")
