"""What surrounds a run: the compilation cache, facts about machine, versions and memory."""

import os
import platform
import resource
import subprocess
import zlib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from covjax import __version__
from covjax.errors import unknown
from covjax.files import user_cache

XLA_FLAGS: dict[str, tuple[str, ...]] = {
    "none": (),
    # JAX documentation, "GPU performance tips": matrix products by Triton, collectives overlapped
    # with computing.
    "nvidia_fast": (
        "--xla_gpu_triton_gemm_any=true",
        "--xla_gpu_enable_latency_hiding_scheduler=true",
    ),
    # openxla/xla pull request 12520: neither atomic sums nor kernels chosen by a stopwatch. A
    # resumed run needs it to end with the same bits on a GPU; a CPU always does.
    "nvidia_deterministic": ("--xla_gpu_deterministic_ops=true",),
}

# Lasts until the program is there, whether it was compiled or read from the cache.
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_compile_seconds = [0.0]

# Kernels that a program for a CPU is known to be read back with: XLA of jaxlib 0.10.2 crashes at
# some 1,000 that depend on one another, that of 0.12 read the most that were tried.
MAX_KERNELS = 600 if jax.__version_info__ < (0, 12) else 3000
SHORT_COMPILE = 1.0  # seconds in which no program of so many kernels is compiled
SMALL_PROGRAM = 100_000  # bytes into which so many kernels are never packed
ZSTANDARD = bytes.fromhex("28b52ffd")
OBJECT_FILES = (b"\x7fELF", bytes.fromhex("cffaedfe"))  # of Linux and macOS


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk for the next start of the same run.

    Programs for a CPU of more than MAX_KERNELS kernels are not kept: XLA may crash when it reads
    them back.
    """
    cache = compilation_cache()
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    checked: set[str] = set()

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == COMPILE_EVENT and duration_secs > SHORT_COMPILE:
            drop_unreadable(cache, checked)

    drop_unreadable(cache, checked)  # of earlier versions and of processes that were killed
    jax.monitoring.register_event_duration_secs_listener(listen)


def compilation_cache() -> Path:
    """Where compiled programs are kept: JAX_COMPILATION_CACHE_DIR, or the user's cache."""
    named = jax.config.values["jax_compilation_cache_dir"]
    return Path(named) if named else user_cache() / "xla"


def drop_unreadable(cache: Path, checked: set[str]) -> None:
    """Deletes cached programs that XLA could write but not read; adds those seen to `checked`.

    XLA:CPU (jaxlib 0.10.2) links the kernels of a program that it reads by recursion, on a thread
    whose stack is 2 MB: some 1,000 nested kernels end it with a segmentation fault. Programs just
    compiled are not linked that way.
    """
    for path in cache.glob("*-cache"):
        if path.name in checked:
            continue
        checked.add(path.name)
        try:
            if path.stat().st_size > SMALL_PROGRAM and _kernels(path.read_bytes()) > MAX_KERNELS:
                path.unlink()
        except OSError:  # removed by another process meanwhile
            continue


def _kernels(entry: bytes) -> int:
    """Counts the object files in a cache entry; none in a damaged one, which jax replaces."""
    try:
        # jax packs with zstandard where that is installed, else with zlib.
        zstandard = import_module("zstandard") if entry.startswith(ZSTANDARD) else None
        unpacked = (
            zstandard.ZstdDecompressor().decompress(entry) if zstandard else zlib.decompress(entry)
        )
    except Exception:
        return 0
    return sum(unpacked.count(mark) for mark in OBJECT_FILES)


def use_xla_flags(preset: str) -> None:
    """Adds a preset of XLA_FLAGS to the environment's and prints it, before jax computes.

    Raises InputError for an unknown preset.
    """
    if preset not in XLA_FLAGS:
        raise unknown("xla_flags", preset, XLA_FLAGS)
    if XLA_FLAGS[preset]:
        flags = " ".join(XLA_FLAGS[preset])
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()
        print(f"XLA_FLAGS: {flags}", flush=True)


def count_compile_time() -> None:
    """Starts adding up the seconds spent compiling, see `compile_seconds`."""

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == COMPILE_EVENT:
            _compile_seconds[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)


def compile_seconds() -> float:
    """Returns the seconds spent compiling, or reading compiled programs, since counting began."""
    return _compile_seconds[0]


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def environment() -> dict[str, Any]:
    """Returns what a reader needs to repeat a run: versions, commit, platform, devices."""
    return {
        "covjax": __version__,
        "commit": source_commit(Path(__file__).parent),
        "python": platform.python_version(),
        **{
            name: version(name)
            for name in ("jax", "flax", "optax", "numpy", "grain", "orbax-checkpoint")
        },
        "platform": platform.platform(),
        "devices": [str(d.device_kind) for d in jax.devices()],
        "cpu_count": os.cpu_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
    }


def source_commit(package: Path) -> str:
    """Returns the git commit that a package is imported from, with what it differs by.

    "unknown" for an installed package, without git, or in a repository that does not track it.
    """
    tracked = _git(package, "ls-files", "--error-unmatch", "__init__.py")
    commit = _git(package, "rev-parse", "HEAD")
    changed = _git(package, "status", "--porcelain", "--", ".")
    if tracked is None or commit is None or changed is None:
        return "unknown"
    files = len(changed.splitlines())
    return f"{commit}, {files} files changed since" if files else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """Returns what git prints in a folder, None if it fails or is not installed."""
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
