"""Plug-ins: files and installed packages that add poolings, unpoolings, networks and scores.

A plug-in calls `covjax.pooling.register_pooling` or `register_unpooling`,
`covjax.models.register_model` or `covjax.scores.register_score` when it is imported. A run keeps a
copy and the digest of each, as a record: what is executed is what the user names, and it must be
the same.
"""

import hashlib
import importlib.util
import shlex
import sys
import traceback
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypedDict

from covjax.errors import InputError
from covjax.files import write_json, write_whole
from covjax.models import MODELS
from covjax.ops.poolings import POOLING_TABLE
from covjax.ops.unpool import UNPOOLING_TABLE
from covjax.records import Inside, read_record
from covjax.scores import SCORES

GROUP = "covjax.plugins"  # of entry points
RECORD = "plugins.json"
DAMAGED = "restore it or use another --workdir"


@dataclass(frozen=True)
class Plugin:
    """A plug-in that was loaded."""

    name: str
    given: str  # the file as the user named it, or the package and its version
    files: dict[str, bytes]  # its sources
    installed: bool
    replaces: tuple[str, ...] = ()  # what it put in the place of something of covjax

    @property
    def digest(self) -> str:
        """SHA-256 of its sources and their names."""
        return digest_of(self.files)


class PluginEntry(TypedDict):
    """What a run keeps of a plug-in."""

    name: Inside
    given: str
    installed: bool
    sha256: str


class PluginsFile(TypedDict):
    """plugins.json."""

    plugins: list[PluginEntry]


LOADED: list[Plugin] = []
# What plug-ins add to: what an entry is, and the table of all.
TABLES: list[tuple[str, dict[str, Any]]] = [
    ("pooling", POOLING_TABLE),
    ("unpooling", UNPOOLING_TABLE),
    *(("model", table) for table in MODELS.values()),
    ("scores", SCORES),
]


def digest_of(files: dict[str, bytes]) -> str:
    """Returns the SHA-256 of files; of one alone, the one that sha256sum prints."""
    if len(files) == 1:
        return hashlib.sha256(*files.values()).hexdigest()
    each = [f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files)]
    return hashlib.sha256("".join(each).encode()).hexdigest()


def load_plugin(path: Path | str) -> Plugin:
    """Executes a Python file that registers something, once.

    Raises InputError if there is no such file, or it fails, naming the line.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"--plugin={path}: no such file, name a Python file")
    source = file.read_bytes()
    same = [found for found in LOADED if list(found.files.values()) == [source]]
    if same:
        return same[0]
    before = _copied()
    module_name = f"covjax_plugin_{file.stem}"
    spec = importlib.util.spec_from_loader(module_name, loader=None, origin=str(file))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(file)
    sys.modules[module_name] = module
    try:
        # what was read is what is executed, whatever becomes of the file
        exec(compile(source, str(file), "exec"), module.__dict__)
    except Exception as error:
        _restore(before)
        raise InputError(f"--plugin={path}: {_where(error, file)}") from error
    return _loaded(Plugin(file.name, str(path), {file.name: source}, False), before)


def load_installed() -> None:
    """Imports the modules that installed packages name as entry points of "covjax.plugins".

    Raises InputError, which names the package, if one fails.
    """
    for point in entry_points(group=GROUP):
        package = f"{point.dist.name} {point.dist.version}" if point.dist else point.name
        if any(found.installed and found.name == point.name for found in LOADED):
            continue
        before = _copied()
        try:
            point.load()
        except Exception as error:
            _restore(before)
            raise InputError(
                f"plug-in {package}: {type(error).__name__}: {error}, mend or uninstall it"
            ) from error
        _loaded(Plugin(point.name, package, _sources(point), True), before)


def record_plugins(workdir: Path) -> None:
    """Keeps a copy of all loaded plug-ins in WORKDIR/plugins, and their digests."""
    if not LOADED:
        return
    for plugin in LOADED:
        for name, content in plugin.files.items():
            path = workdir / "plugins" / plugin.name / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
    entries = [
        {
            "name": plugin.name,
            "given": plugin.given,
            "installed": plugin.installed,
            "sha256": plugin.digest,
        }
        for plugin in LOADED
    ]
    write_json(workdir / RECORD, {"plugins": entries})


def check_plugins(workdir: Path) -> None:
    """Raises InputError unless the plug-ins of the run in `workdir` are loaded, unchanged."""
    path = workdir / RECORD
    recorded: list[PluginEntry] = []
    if path.is_file():
        recorded = read_record(path, PluginsFile, DAMAGED)["plugins"]
    digests = {plugin.digest for plugin in LOADED}
    for entry in recorded:
        if entry["sha256"] not in digests:
            raise InputError(_missing(workdir, entry))
    known = {entry["sha256"] for entry in recorded}
    for plugin in LOADED:
        if plugin.replaces and plugin.digest not in known:
            raise InputError(
                f"{workdir}: was trained without the plug-in {plugin.given}, which replaces "
                f"{', '.join(plugin.replaces)}, leave it out"
            )


def _missing(workdir: Path, entry: PluginEntry) -> str:
    given = entry["given"]
    changed = any(plugin.name == entry["name"] for plugin in LOADED)
    fault = "has changed since" if changed else "is not loaded"
    if entry["installed"]:
        remedy = f"install {given} as it was"
    else:
        file = Path(given).expanduser()
        there = file.is_file() and digest_of({file.name: file.read_bytes()}) == entry["sha256"]
        copy = workdir / "plugins" / entry["name"] / entry["name"]
        remedy = f"give {shlex.quote(f'--plugin={file if there else copy}')}"
    return f"{workdir}: was trained with the plug-in {given}, which {fault}, {remedy}"


def _loaded(plugin: Plugin, before: list[dict[str, Any]]) -> Plugin:
    """Adds a plug-in to those loaded, with what it replaced."""
    replaced = tuple(
        f"{what} '{name}'"
        for (what, table), entries in zip(TABLES, before, strict=True)
        for name, entry in entries.items()
        if what != "scores" and table.get(name) is not entry
    )
    LOADED.append(replace(plugin, replaces=replaced))
    return LOADED[-1]


def _copied() -> list[dict[str, Any]]:
    return [dict(table) for _, table in TABLES]


def _restore(tables: list[dict[str, Any]]) -> None:
    for (_, table), entries in zip(TABLES, tables, strict=True):
        table.clear()
        table.update(entries)


def _where(error: Exception, file: Path) -> str:
    """Says in which line of a plug-in an error was raised, and which."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) else (lines[-1] if lines else None)
    kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{f'line {line}: ' if line else ''}{kind}{message}, mend it"


def _sources(point: EntryPoint) -> dict[str, bytes]:
    """Returns the Python files of the module or package that an entry point names."""
    root = point.module.partition(".")[0]
    module = sys.modules[root]
    folders = list(getattr(module, "__path__", ()))
    if not folders:
        file = Path(str(module.__file__))
        return {file.name: file.read_bytes()}
    return {
        path.relative_to(Path(folder).parent).as_posix(): path.read_bytes()
        for folder in folders
        for path in sorted(Path(folder).rglob("*.py"))
    }
