"""What surrounds a run: compilation cache, and facts about machine, versions, memory and compile time."""

import os
import platform
import resource
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from covjax import __version__

# Lasts until the program is there, whether it was compiled or read from the cache.
COMPILE_EVENT = "/jax/core/compile/backend_compile_duration"
_compile_seconds = [0.0]


def enable_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the next start of the same run does not compile again."""
    if not jax.config.jax_compilation_cache_dir:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "covjax" / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def count_compile_time() -> None:
    """Starts adding up the seconds spent compiling, see `compile_seconds`."""

    def listen(event: str, seconds: float, **_: Any) -> None:
        if event == COMPILE_EVENT:
            _compile_seconds[0] += seconds

    jax.monitoring.register_event_duration_secs_listener(listen)


def compile_seconds() -> float:
    """Seconds this process has spent compiling or reading compiled programs back, since counting began."""
    return _compile_seconds[0]


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if platform.system() == "Darwin" else 2**10)


def environment() -> dict[str, Any]:
    """Returns what a reader needs to repeat a run: versions, platform, devices."""
    return {
        "covjax": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "flax", "optax", "numpy", "grain", "orbax-checkpoint")},
        "platform": platform.platform(),
        "devices": [str(d.device_kind) for d in jax.devices()],
        "cpu_count": os.cpu_count(),
    }
