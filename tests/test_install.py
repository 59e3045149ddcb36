"""What is installed: the contents of wheel and sdist, what starting imports, covjax doctor."""

import ast
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import covjax
from covjax.commands import doctor
from covjax.commands.__main__ import COMMANDS
from covjax.errors import install_command
from tests.places import ROOT

# An sdist, and a wheel made of what is in it.
BUILD = """
import os, sys, tarfile
from setuptools import build_meta
os.chdir(sys.argv[1])
name = build_meta.build_sdist("..")
tarfile.open(f"../{name}").extractall("..", filter="data")
os.chdir(f"../{name.removesuffix('.tar.gz')}")
build_meta.build_wheel("..")
"""
FOLDERS = ("covjax", "configs", "constraints", "docs", "examples", "tests")
HEAVY = ("jax", "flax", "matplotlib", "tensorflow_datasets")
STARTS = f"""
import contextlib, io, sys
import covjax
from covjax.commands.__main__ import main
dir(covjax)
for words in [[], *([name] for name in {list(COMMANDS)})]:
    sys.argv = ["covjax", *words, "--help"]
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main()
print(sorted(set({HEAVY}) & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """{ending: names of the files in the sdist or the wheel}, the first folder of the sdist's cut
    off.
    """
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("[!.]*"):
        if path.is_file():
            shutil.copy(path, source)
    subprocess.run([sys.executable, "-c", BUILD, source], check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return {"sdist": names, "wheel": set(wheel.namelist())}


def tracked(*places):
    paths = [path for place in places for path in sorted((ROOT / place).rglob("*"))]
    return {
        path.relative_to(ROOT).as_posix()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_a_wheel_holds_the_package_and_nothing_else(built):
    info = f"covjax-{covjax.__version__}.dist-info/"
    package = {name for name in built["wheel"] if not name.startswith(info)}
    assert package == tracked("covjax")
    assert {"covjax/py.typed", "covjax/configs/quickstart.py"} <= package
    assert {f"{info}entry_points.txt", f"{info}licenses/LICENSE"} <= built["wheel"]


def test_an_sdist_holds_the_project(built):
    files = ("train.py", "eval.py", "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml")
    assert built["sdist"] >= tracked(*FOLDERS) | {*files}
    assert not [name for name in built["sdist"] if "__pycache__" in name]


@pytest.mark.parametrize("path", sorted((ROOT / "constraints").glob("*.txt")), ids=lambda p: p.stem)
def test_tested_versions_are_what_covjax_asks_for(path):
    lines = [Requirement(line) for line in path.read_text().splitlines() if line[:1] != "#"]
    assert all(str(line.specifier).startswith("==") and not line.url for line in lines)
    tested = {canonicalize_name(line.name): str(line.specifier)[2:] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lists = [project["dependencies"], *(extras[name] for name in extras if name != "cuda")]
    for wanted in (Requirement(line) for asked in lists for line in asked):
        assert wanted.specifier.contains(tested[canonicalize_name(wanted.name)]), wanted


def test_starting_and_help_import_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", STARTS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_public_names():
    """An editor reads them where type checkers do; they are the ones that there are."""
    block = next(node for node in ast.parse(Path(covjax.__file__).read_text()).body
                 if isinstance(node, ast.If))  # fmt: skip
    imported = {alias.name for node in block.body for alias in node.names}
    assert imported | {"__version__"} == set(dir(covjax))
    assert all(getattr(covjax, name) is not None for name in dir(covjax))
    with pytest.raises(AttributeError, match="has no attribute 'Screner'"):
        covjax.Screner  # noqa: B018


def test_doctor_finds_this_installation_sound(run_command):
    done = run_command("covjax", "doctor", JAX_PLATFORMS="cpu")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for word in ("jax ", "covjax/xla", "covjax/prepared", "extra cuda", "weights", "self-test"):
        assert word in done.stdout
    assert done.stdout.endswith("nothing wrong\n")


def test_doctor_says_what_is_wrong_and_what_to_do(monkeypatch, tmp_path, capsys):
    def broken():
        raise ImportError("no such library")

    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(doctor, "_devices", broken)
    monkeypatch.setattr(doctor, "_self_test", lambda: iter(()))
    assert doctor.doctor() == 1
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WRONG")]
    assert [line.split()[1] for line in wrong] == ["broken", "folder"]
    assert "ImportError: no such library" in wrong[0]
    assert "prepared slices: Not a directory, set XDG_CACHE_HOME or" in wrong[1]


def test_doctor_reads_what_packages_require(monkeypatch):
    required = {
        "covjax": ["jax[cuda13]>=0.10; extra == 'cuda'", "jax>=0.10", "numpy"],
        "jax": ["gone; extra == 'cuda13'", "old; python_version < '3'"],
    }

    def version(name):
        if name != "jax":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.9"

    monkeypatch.setattr(importlib.metadata, "requires", required.get)
    monkeypatch.setattr(importlib.metadata, "version", version)
    old = "jax is 0.9, >=0.10 is needed"
    assert doctor.missing("covjax") == [old, "numpy is not installed"]
    assert doctor.missing("covjax", "cuda") == [old, "gone is not installed"]


def test_how_an_extra_is_installed(monkeypatch):
    words = [sys.executable, "-m", "pip", "install"]
    assert install_command("h5") == f"{' '.join(words)} -e '{ROOT}[h5]'"
    monkeypatch.setattr("covjax.errors.__file__", "/lib/site-packages/covjax/errors.py")
    assert install_command("h5") == f"{' '.join(words)} 'covjax[h5]'"
