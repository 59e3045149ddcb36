"""Flags that name files and fields: what is expanded, what is refused, which value counts."""

import importlib
import re
import runpy
from pathlib import Path

import pytest
from absl import flags

from covjax.commands.__main__ import COMMANDS
from covjax.commands.config_flag import CONFIGS, config_file, settle_overrides
from covjax.commands.shared_flags import read_path, read_paths
from covjax.errors import InputError
from covjax.fields import read_section, to_dict
from covjax.stages.settings import InitSettings
from tests.places import ROOT


def path_flags():
    for name in COMMANDS:
        own = importlib.import_module(f"covjax.commands.{name}").FLAGS
        for flag in own:
            if own[flag].parser.flag_type() == "path":
                yield name, flag


PATH_FLAGS = sorted(path_flags())


def test_every_flag_that_names_a_file_is_a_path():
    assert {flag for _, flag in PATH_FLAGS} == {"workdir", "output", "input", "data_path"}
    assert len(PATH_FLAGS) >= 14


@pytest.mark.parametrize(("command", "flag"), PATH_FLAGS)
def test_an_empty_path_is_refused(run_command, tmp_path, command, flag):
    done = run_command("covjax.commands.__main__", command, f"--{flag}=")
    assert done.returncode == 2
    assert f"flag --{flag}=: empty, name a file or folder" in done.stderr.splitlines()[-1]


def test_home_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_path("~/a b/run") == tmp_path / "a b" / "run"
    assert read_path("a/~") == Path("a/~")
    with pytest.raises(ValueError, match="no home folder, write the path in full"):
        read_path("~nobody-of-that-name/x")
    with pytest.raises(flags.Error, match="'a ': empty"):
        read_paths(["a", ""])
    given = to_dict(InitSettings()) | {"run": "~/earlier"}
    start = read_section(InitSettings(), given, "init")
    assert (
        start == InitSettings(run="~/earlier")
        and start.run == str(tmp_path / "earlier")
        and start.weights == "none"
    )
    assert settle_overrides(["--config=~/x.py:a=1"]) == [f"--config={tmp_path}/x.py:a=1"]


def test_a_name_is_a_configuration_that_ships():
    shipped = ROOT / "covjax" / "configs"
    assert config_file("study:pooling") == f"{shipped}/study.py:pooling"
    assert config_file("classify:a=x/y.py") == f"{shipped}/classify.py:a=x/y.py"
    assert settle_overrides(["x", "--config", "quickstart"])[2] == f"{shipped}/quickstart.py"
    assert config_file("quickstart.py") == "quickstart.py"
    assert config_file("./quickstart:a") == "./quickstart:a"
    with pytest.raises(InputError, match="--config: 'quikstart' is unknown, .* 'quickstart'"):
        config_file("quikstart")


def test_every_configuration_that_ships_has_its_door():
    for name in CONFIGS:
        door = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]
        assert door is importlib.import_module(f"covjax.configs.{name}").get_config
    assert sorted(path.stem for path in (ROOT / "configs").glob("*.py")) == CONFIGS


def test_the_last_value_of_a_field_counts(run_command):
    given = ["x", "--config.a=1", "--config.b=2", "--config.a=3", "--other=1", "--other=2"]
    assert settle_overrides(given) == ["x", "--config.b=2", "--config.a=3", *given[4:]]
    sizes = [f"--config.segmenter.input.size=({side},{side})" for side in (32, 8)]
    done = run_command(
        "covjax.commands.__main__",
        "train",
        "--config=configs/cov_raseg.py",
        "--workdir=none",
        *sizes,
    )
    assert done.returncode == 1
    assert "segmenter.input.size: (8, 8) must be height and width" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("segmenter.epoch = 3", "segmenter: 'epoch' is unknown, .* did you mean 'epochs'"),
        ("segmenter.optimizer.lr = 1.0", "segmenter.optimizer: 'lr' is unknown"),
        ("segmenter.loss.class_weight = 'none'", "segmenter.loss: .* did you mean 'class_weights'"),
        (
            "segmenter.model.feature = 3",
            "segmenter.model: option 'feature' is unknown to cov_raseg",
        ),
        ("data.phantom.patient = 3", "data.phantom: .* did you mean 'patients'"),
        ("splits = 3", "config: 'splits' is unknown, .* did you mean 'split'"),
    ],
)
def test_an_unknown_field_of_a_file_is_refused(run_command, tmp_path, line, words):
    (tmp_path / "mine.py").write_text(
        "from covjax.configs import cov_raseg\n\n\ndef get_config():\n"
        f"    config = cov_raseg.get_config().unlock()\n    config.{line}\n    return config\n"
    )
    workdir = tmp_path / "run"
    done = run_command(
        "covjax.commands.__main__",
        "train",
        f"--config={tmp_path / 'mine.py'}",
        f"--workdir={workdir}",
    )
    assert done.returncode == 1 and not workdir.exists()
    assert re.search(words, done.stderr), done.stderr


@pytest.mark.parametrize(
    "start",
    [
        ("--config.classifier.init.weights=gone.safetensors",),
        ("--config.classifier.init.weights=none", "--config.classifier.init.run=gone",
         "--config.classifier.input.normalize=zero_center"),
    ],
)  # fmt: skip
def test_what_a_run_starts_from_is_looked_for_first(run_command, tmp_path, start):
    prepared = f"--config.data.prepared_dir={tmp_path / 'prepared'}"
    data = ("--config.data.source=phantom", prepared)
    workdir = f"--workdir={tmp_path / 'run'}"
    done = run_command(
        "covjax.commands.__main__", "train", "--config=configs/transfer.py", *data, workdir, *start
    )
    assert done.returncode == 1 and "error: gone" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config.segmenter.epochs=3", "--output=x"), "epochs: .* only fields of data"),
        (("--config=framework", "--output=x"), "--config: the run has its own, set fields"),
        (("--config.data.source=folder", "--output=x", "--split=val"), "--split is of the run's"),
        (("--window=lung",), "--window goes with --config.data"),
    ],
)
def test_flags_of_another_set_to_evaluate_on_are_checked(run_command, tmp_path, arguments, words):
    done = run_command("eval.py", f"--workdir={tmp_path / 'gone'}", *arguments)
    assert done.returncode in (1, 2) and re.search(words, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("t.csv", "p"), "must be both folders or both CSV"),
        (("t.csv", "p.csv", "--classes=1:infected"), "--classes is of masks, leave it out"),
        (("t", "p"), "t: is not a folder, name one of masks"),
    ],
)
def test_flags_of_scores_for_other_tools_are_checked(run_command, arguments, words):
    done = run_command("covjax.commands.__main__", "score", *arguments, "--output=gone")
    assert done.returncode in (1, 2) and words in done.stderr, done.stderr
