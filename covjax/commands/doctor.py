"""Says whether this installation works: versions, devices, folders, extras.

covjax doctor

A self-test of some seconds ends it. Exit status 1 if something is wrong, each
with what to do; 0 if not. Extras that are not installed are not wrong.
"""

import importlib.metadata
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from covjax import __version__
from covjax.commands import cli
from covjax.errors import install_command

FLAGS = cli.new_flags()
SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "tensorflow-datasets")
NVIDIA = Path("/proc/driver/nvidia/version")
OK = "ok"
WITHOUT = "-"  # what an installation need not have
WRONG = "WRONG"

# What was looked at, one of the three above, and what was found.
Line = tuple[str, str, str]


def doctor() -> int:
    wrong = 0
    checks = (_packages, _devices, _folders, _extras, _weights, _self_test)
    for check in checks:
        for what, state, text in _survived(check):
            print(f"{state:5}  {what:12}  {text}", flush=True)
            wrong += state == WRONG
    print(f"{wrong} wrong, see above" if wrong else "nothing wrong")
    return int(wrong > 0)


def _survived(check: Callable[[], Iterator[Line]]) -> Iterator[Line]:
    """What a check finds; a check that fails, as a broken package makes it, is wrong itself."""
    try:
        yield from check()
    except Exception as error:
        yield check.__name__.strip("_").replace("_", "-"), WRONG, f"{type(error).__name__}: {error}"


def _packages() -> Iterator[Line]:
    yield "covjax", OK, f"{__version__} in {Path(__file__).parents[1]}"
    yield "python", OK, f"{platform.python_version()} ({sys.executable}), {platform.platform()}"
    lacking = missing("covjax")
    for problem in lacking:
        yield "packages", WRONG, f"{problem}: {install_command()}"
    if not lacking:
        versions = (f"{name} {importlib.metadata.version(name)}" for name in SHOWN)
        yield "packages", OK, ", ".join(versions)


def missing(package: str, extra: str = "") -> list[str]:
    """Returns what an installed package, or an extra of it, requires and is not installed."""
    found: list[str] = []
    for line in importlib.metadata.requires(package) or ():
        wanted = Requirement(line)
        if not _asked_for(wanted, extra) or (extra and _asked_for(wanted, "")):
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{wanted.name} is not installed")
            continue
        if not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted.name} is {version}, {wanted.specifier} is needed")
        for name in wanted.extras:
            found += missing(wanted.name, name)
    return found


def _asked_for(wanted: Requirement, extra: str) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _devices() -> Iterator[Line]:
    import jax

    devices = jax.devices()
    kinds = ", ".join(sorted({device.device_kind for device in devices}))
    text = f"{len(devices)} {devices[0].platform} ({kinds}), {os.cpu_count()} CPU cores"
    idle = NVIDIA.exists() and devices[0].platform == "cpu" and not os.environ.get("JAX_PLATFORMS")
    yield (
        "devices",
        WRONG if idle else OK,
        f"{text}; an NVIDIA GPU is not used: {install_command('cuda')}" if idle else text,
    )


def _folders() -> Iterator[Line]:
    from covjax.data.contents import prepared_dir
    from covjax.data.settings import DataSettings
    from covjax.runtime import compilation_cache

    caches = "XDG_CACHE_HOME or"
    folders = (
        (compilation_cache(), "compiled programs", f"{caches} JAX_COMPILATION_CACHE_DIR"),
        (prepared_dir(DataSettings()), "prepared slices", f"{caches} --config.data.prepared_dir"),
        (Path(tempfile.gettempdir()), "temporary files", "TMPDIR"),
    )
    for folder, use, variable in folders:
        if problem := _refusal(folder):
            yield "folder", WRONG, f"{folder} for {use}: {problem}, set {variable} to another"
        else:
            yield "folder", OK, f"{folder} for {use}"


def _refusal(folder: Path) -> str | None:
    """Returns why nothing can be written to a folder, or to where it would be made, or None."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return None


def _extras() -> Iterator[Line]:
    for extra in importlib.metadata.metadata("covjax").get_all("Provides-Extra") or ():
        if missing("covjax", extra):
            yield f"extra {extra}", WITHOUT, f"not installed: {install_command(extra)}"
        else:
            yield f"extra {extra}", OK, "installed"


def _weights() -> Iterator[Line]:
    from covjax.errors import InputError
    from covjax.models import create_model, list_models, published
    from covjax.pretrained import packaged

    for name in list_models("classification"):
        model = published(create_model(name))
        if model is None or model.package is None:
            continue
        try:
            yield "weights", OK, f"{name}: {packaged(model)}"
        except InputError as error:
            yield "weights", WITHOUT, str(error)


def _self_test() -> Iterator[Line]:
    import jax
    import jax.numpy as jnp

    from covjax.data.phantom.picture import phantom_slice
    from covjax.wavelets import dwt2, idwt2

    def half_square(image: jax.Array) -> jax.Array:
        """As wavelets reconstruct an image, the gradient of this is the image."""
        return jnp.sum(idwt2(dwt2(image)) ** 2) / 2

    start = time.monotonic()
    picture, _, _ = phantom_slice(0, 6, slices_per_patient=12)
    image = jnp.asarray(picture, jnp.float32)[None, ..., None]
    error = float(jnp.abs(jax.jit(jax.grad(half_square))(image) - image).max())
    if error < 0.01:
        seconds = time.monotonic() - start
        yield "self-test", OK, f"a slice through wavelets and back: {seconds:.1f} s"
    else:
        yield "self-test", WRONG, f"wavelets are off by {error:.3g}, install jax and jaxlib again"


def main() -> None:
    cli.run(doctor, FLAGS, __doc__, computes=False)
