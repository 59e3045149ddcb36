"""What a user sees who gives bad input to the two commands: one line, the right exit status,
nothing half-written.
"""

import os
import subprocess

import numpy as np
import pytest
from PIL import Image

TINY = (
    "--config=configs/cov_raseg.py", "--config.data.phantom.patients=6",
    "--config.data.phantom.slices_per_patient=3",
    "--config.data.phantom.size=64", "--config.segmenter.input.size=(32,32)",
    "--config.segmenter.model.features=2",
    "--config.segmenter.epochs=1", "--config.segmenter.batch_size=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def run(home, run_command):
    def run(*command, limit=None):
        done = run_command(*command, limit=limit, XDG_CACHE_HOME=home / "cache")
        return done.returncode, done.stderr

    return run


def refused(result, status, *words):
    code, stderr = result
    assert code == status, stderr[-2000:]
    assert "Traceback" not in stderr
    lines = stderr.replace("\r", "\n").rstrip("\n").split("\n")
    assert [line.startswith("error: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("error: ") and all(word in lines[-1] for word in words), lines[-1]


@pytest.fixture(scope="module")
def trained(home, run_command):
    done = run_command("train.py", *TINY, "--workdir", home / "run", XDG_CACHE_HOME=home / "cache")
    assert done.returncode == 0, done.stderr[-2000:]
    return home / "run"


def files(folder):
    return (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        if folder.exists()
        else {}
    )


def pictures(folder, shape=(64, 64)):
    for k, name in enumerate("abcdef"):
        for kind, pixels in (("images", np.full(shape, 90 + k)), ("masks", np.eye(*shape) * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{name}.png")
    return folder


def no_pictures(folder):
    for path in folder.rglob("*.png"):
        path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:70])


def rewrite(path, pixels):
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


def save_as(path, mode="L"):
    Image.open(path).convert(mode).save(path.with_suffix(".tif"))
    path.unlink()


CASES = {
    "unknown key": (
        ("--config.segmenter.epoch=3",),
        1,
        ("'epoch' is unknown", "batch_size", "did you mean 'epochs'"),
    ),
    "unknown section": (("--config.segmentr.epochs=3",), 1, ("did you mean 'segmenter'",)),
    "wrong type": (("--config.seed=abc",), 1, ("--config.seed: 'abc'",)),
    "unknown name": (
        ("--config.segmenter.model.name=cov_rasegg",),
        1,
        ("did you mean 'cov_raseg'",),
    ),
    "unknown flag": (("--workdirr=x",), 2, ("workdirr", "workdir")),
    "unnamed argument": (("extra",), 2, ("'extra' is not a flag",)),
    "no configuration": (("--config=configs/gone.py",), 1, ("configs/gone.py is not a file",)),
    "broken configuration": (("--config=./README.md",), 1, ("README.md is broken",)),
    "unknown study": (
        ("--config=configs/study.py:poolin",),
        1,
        ("study: 'poolin'", "did you mean 'pooling'"),
    ),
    "unknown variant": (
        ("--config=configs/study.py:losses", "--config.study.only=dise"),
        1,
        ("study.only: 'dise' is unknown", "did you mean 'dice'"),
    ),
}


def test_flags_and_configuration(run, home):
    for flags, status, words in CASES.values():
        given = (*flags, *TINY[1:]) if flags[0].startswith("--config=") else (*TINY, *flags)
        refused(run("train.py", "--workdir", home / "none", *given), status, *words)
    assert not (home / "none").exists()


JOBS = {
    "nothing": ((), ("--workdir is required",)),
    "screening nowhere": (("--workdir=x", "--input=y"), ("--output is required",)),
    "comparing nowhere": (("--compare", "x", "y"), ("--output is required",)),
    "two jobs": (("--compare", "x", "y", "--workdir=z"), ("Unknown command line flag 'workdir'",)),
    "audit of nothing": (("--audit",), ("--workdir or --config is required",)),
    "two audits": (
        ("--audit", "--workdir=x", TINY[0]),
        ("--workdir, --config do not go together",),
    ),
    "audit of a split": (
        ("--audit", TINY[0], "--split=val"),
        ("Unknown command line flag 'split'",),
    ),
    "protocols of nothing": (("--protocols=x",), ("--config or --workdir is required",)),
    "fields of nothing": (("--audit", "--config.seed=3"), ("config.seed",)),
}


@pytest.mark.parametrize(("given", "words"), JOBS.values(), ids=JOBS)
def test_flags_of_evaluation(run, given, words):
    refused(run("eval.py", *given), 2, *words)


def test_status_of_an_audit(run, home):
    """3 where something serious was found, 0 where not, 1 for data that cannot be read at all."""
    audit = ("eval.py", "--audit", *TINY[:4])
    clean = run(*audit, "--output", home / "clean")
    leaky = run(*audit, "--output", home / "leaky", "--config.split.by=slice")
    assert clean[0] == 0 and leaky[0] == 3, (clean, leaky)
    unread = (
        *audit,
        "--output",
        home / "none",
        "--config.data.source=folder",
        "--config.data.path=nowhere",
    )
    refused(run(*unread), 1, "data.path: nowhere is not a folder")
    assert (home / "clean" / "index.html").is_file() and not (home / "none").exists()


def folder_flags(home, name):
    return (
        f"--config.data.path={home / name}",
        "--config.data.source=folder",
        "--config.split.by=slice",
    )


FOLDERS = {
    "no pictures": (no_pictures, ("holds no picture",)),
    "no mask": (lambda f: (f / "masks" / "c.png").unlink(), ("c.png", "nor a mask")),
    "no image": (
        lambda f: (f / "images" / "c.png").unlink(),
        ("c.png", "a mask without its image"),
    ),
    "sizes": (
        lambda f: rewrite(f / "masks" / "b.png", np.eye(64, 60)),
        ("b.png", "differ in size"),
    ),
    "values": (
        lambda f: rewrite(f / "masks" / "b.png", np.eye(64) * 77),
        ("b.png", "mask values 0, 77"),
    ),
    "truncated": (lambda f: truncate(f / "images" / "d.png"), ("d.png: damaged",)),
    "empty": (lambda f: (f / "images" / "d.png").write_bytes(b""), ("d.png: the file is empty",)),
    "text": (lambda f: (f / "images" / "d.png").write_text("none"), ("d.png: not a picture",)),
    "cmyk": (lambda f: save_as(f / "images" / "d.png", "CMYK"), ("d.tif: CMYK",)),
    "one pixel": (lambda f: rewrite(f / "images" / "d.png", [[0]]), ("d.png: 1x1",)),
    "huge": (
        lambda f: Image.new("1", (20000, 20000)).save(f / "images" / "d.png"),
        ("d.png: more than 64,000,000",),
    ),
    "healthy": (
        lambda f: [rewrite(p, np.zeros((64, 64))) for p in (f / "masks").iterdir()],
        ("no slice is infected",),
    ),
}


def test_data(run, home):
    for name, (damage, _) in FOLDERS.items():
        damage(pictures(home / name))
    train = ("train.py", *TINY, "--workdir", home / "none")
    for name, (_, words) in FOLDERS.items():
        refused(run(*train, *folder_flags(home, name)), 1, *words)
    one_patient = run(*train, "--config.data.phantom.patients=1")
    refused(one_patient, 1, "1 patient(s) cannot be split", "--config.split.by=slice")
    assert not (home / "none").exists()
    prepared = [p for p in (home / "cache/covjax/prepared").glob("folder-*") if p.is_dir()]
    # the healthy one: data are fine
    assert all((p / "index.json").is_file() for p in prepared) and len(prepared) == 1


def test_workdirs(run, home, trained):
    before = files(trained)
    refused(
        run("train.py", *TINY, "--workdir", trained, "--config.seed=7"),
        1,
        "seed: 0 there, 7 now",
    )
    refused(run("eval.py", "--workdir", home / "nowhere"), 1, "nowhere: no config.json")
    assert files(trained) == before and not (home / "nowhere").exists()


EVALUATIONS = {
    "unknown augmentation": (
        ("--tta=flips,scale",),
        1,
        ("--tta: 'scale' is unknown", "did you mean 'scales'"),
    ),
    "negative size": (("--min_size=-3",), 1, ("--min_size: -3",)),
    "unknown format": (
        ("--save_predictions=jpg",),
        1,
        ("--save_predictions: 'jpg' is unknown", "npz, png"),
    ),
    "no classifier": (("--explain",), 1, ("--explain: this run has no classifier",)),
    "not for screening": (
        ("--explain", "--input=x", "--output=y"),
        2,
        ("Unknown command line flag 'explain'",),
    ),
}


def test_evaluation_options(run, home, trained):
    before = files(trained)
    for flags, status, words in EVALUATIONS.values():
        refused(run("eval.py", "--workdir", trained, *flags), status, *words)
    pooled = run("eval.py", "--pool", trained, trained, "--output", home / "pooled")
    refused(pooled, 1, "are in the test split of", "split.folds")
    assert files(trained) == before and not (home / "pooled").exists()


def test_places_that_cannot_be_written(run, home, trained):
    (home / "file").write_text("")
    refused(
        run("train.py", *TINY, "--workdir", home / "file" / "run"), 1, "file/run", "cannot be made"
    )
    assert (home / "file").read_text() == ""


def test_results_that_cannot_be_written(run, home, trained):
    before = files(trained / "results")
    refused(run("eval.py", "--workdir", trained, limit=100), 1, str(trained), "File too large")
    after = files(trained / "results")
    assert {p: after[p] for p in before} == before and not [p for p in after if "partial" in p.name]


def test_checkpoints_that_cannot_be_written(run, home, trained):
    """And the run goes on where it stopped once there is room."""
    workdir = home / "full"
    refused(
        run("train.py", *TINY, "--workdir", workdir, limit=3000), 1, str(workdir), "File too large"
    )
    # the best one, without the optimizer's state, fits
    assert not list(workdir.glob("checkpoints/*/latest/[0-9]"))
    code, stderr = run("train.py", *TINY, "--workdir", workdir)
    assert code == 0, stderr[-2000:]


def test_a_full_disk(run, home, trained):
    disk = home / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        refused(
            run("train.py", *TINY, "--workdir", disk / "run"), 1, str(disk / "run"), "No space left"
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
