"""The commands one by one; what bad input to them gets is in test_bad_input.py."""

import pkgutil
import re
import subprocess
import sys

import pytest

import covjax.commands
from covjax.commands.__main__ import COMMANDS
from tests.places import ROOT

SHARED = {"__main__", "cli", "config_flag", "shared_flags"}


def test_every_command_is_listed():
    modules = {module.name for module in pkgutil.iter_modules(covjax.commands.__path__)}
    assert modules - SHARED == set(COMMANDS)


@pytest.mark.parametrize("words", [("covjax.commands.__main__",), ("train.py",), ("eval.py",)])
def test_help_of_what_has_several_commands(run_command, words):
    done = run_command(*words, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_flag_in_80_columns(run_command, name):
    done = run_command("covjax.commands.__main__", name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    source = (ROOT / "covjax" / "commands" / f"{name}.py").read_text()
    flags = {found.lower() for found in re.findall(r"^_([A-Z_]+) = ", source, re.M)}
    flags |= {"debug", "plugin", *re.findall(r"^define_(\w+)\(FLAGS\)", source, re.M)}
    assert set(re.findall(r"^  --(\w+)", done.stdout, re.M)) == flags


DOORS = {
    "--compare x y --output z": "covjax compare",
    "--pool=x y --output z": "covjax pool",
    "--audit --workdir x": "covjax audit",
    "--protocols x --workdir y": "covjax protocols",
    "--workdir x --input=y --output z": "covjax screen",
    "--workdir x": "covjax evaluate",
}


@pytest.mark.parametrize(("line", "usage"), DOORS.items(), ids=DOORS.values())
def test_a_flag_asks_for_its_command(run_command, line, usage):
    done = run_command("eval.py", *line.split(), "--help")
    assert done.returncode == 0 and usage in done.stdout


def test_one_command_of_all(run_command):
    done = run_command("covjax.commands.__main__", "data")
    assert done.returncode == 0 and "mosmed" in done.stdout
    wrong = run_command("covjax.commands.__main__", "scren")
    assert wrong.returncode == 2 and "did you mean 'screen'" in wrong.stderr


def test_a_study_needs_one(run_command, tmp_path):
    done = run_command(
        "covjax.commands.__main__",
        "study",
        "--config=configs/cov_raseg.py",
        f"--workdir={tmp_path / 'run'}",
    )
    assert done.returncode == 1 and "--config: has no study" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "study", "protocols", "audit", "preview"])
def test_a_file_without_a_field_gets_one_line(run_command, tmp_path, command):
    base = "study.get_config('pooling')" if command == "study" else "framework.get_config()"
    (tmp_path / "mine.py").write_text(
        "from covjax.configs import framework, study\n"
        f"def get_config():\n    config = {base}.copy_and_resolve_references()\n"
        "    config.unlock()\n    del config.xla_flags\n    return config\n"
    )
    output = "--workdir" if command in ("train", "study") else "--output"
    arguments = [f"--config={tmp_path / 'mine.py'}", f"{output}={tmp_path / 'out.png'}"]
    done = run_command("covjax.commands.__main__", command, *arguments)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "xla_flags" in done.stderr and not (tmp_path / "out.png").exists()


def test_a_picture_of_augmentation_is_a_png(run_command, tmp_path):
    done = run_command("train.py", "--config=configs/quickstart.py", "--show_augmentation=x.jpg")
    assert (done.returncode, done.stderr) == (
        1,
        "error: x.jpg: must end in .png, the picture is one\n",
    )


def test_the_installed_command_finds_configurations(tmp_path):
    """It starts without the current folder among the places to import from."""
    code = "import sys; from covjax.commands.__main__ import main; sys.exit(main())"
    arguments = ["train", "--config=configs/quickstart.py", f"--workdir={tmp_path}/run"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments, "--config.seed=-1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.splitlines()[-1:] == ["error: seed: -1 must be 0 or more and below 2**32"]
