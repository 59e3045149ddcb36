"""Every kind of file that covjax reads, whole, with what reads it."""

import hashlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import safetensors.numpy
from matplotlib.figure import Figure
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.fileset import FileSet
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless

from covjax.configs import framework
from covjax.data.intensity import eight_bit
from covjax.data.prepared.dataset import open_prepared, prepare
from covjax.data.sources.registry import open_source
from covjax.data.splits.listed import listed_splits
from covjax.errors import InputError
from covjax.files import read_arrays
from covjax.pretrained.files import read_weights
from covjax.report.run.page import build_report
from covjax.runs.intensity import read_intensity
from covjax.runs.pool import read_row_arrays
from covjax.runs.train import train_run
from covjax.runs.trained import load_trained
from covjax.screening.inputs import find_screened
from covjax.settings import default_config, load_settings, read_settings, write_settings
from covjax.tables import read_rows
from covjax.training.history import rewind
from tests.attacks.mutations import BYTES, JSON, TEXT, Kind
from tests.attacks.results import compared_kinds, screened_kinds, written_kinds
from tests.data.written import dicom_slice, save, scan, write_frames, write_nifti
from tests.pretrained.formats import FORMS
from tests.pretrained.keras_layout import keras_file
from tests.trained import tiny_config

# read as well where it is beside what is damaged
GOOD = "good/one.png"
STATE = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float32)}


def digest(*arrays) -> str:
    """Returns a hash of arrays and texts."""
    parts = [
        a if isinstance(a, str) else f"{a.shape}{a.tobytes().hex()}" for a in map(_plain, arrays)
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _plain(value):
    return np.asarray(value) if hasattr(value, "shape") else str(value)


def _screened(path: Path) -> str:
    """Reads all scans and pictures of a folder, or of a DICOMDIR."""
    errors: list[InputError] = []
    read = []
    listed = path.name == "DICOMDIR"
    found, _ = find_screened(path if listed else path.parent, "auto", 16, errors.append)
    for opener in found.values():
        try:
            one = opener()
            for index in range(len(one)):
                values = one.read(index)
                assert values.ndim == 2 and eight_bit(values, None).dtype == np.uint8
                read.append(values)
        except InputError as error:
            errors.append(error)
    # the good picture beside it is found whatever happens
    assert listed or (found and len(errors) <= 1)
    if errors:
        raise errors[0]
    return digest(*read)


def _source(path: Path, name: str) -> str:
    data = default_config().data
    root = path.parent if path.suffix == ".csv" else path.parents[1]
    data.update(source=name, path=str(root), prepared_dir=f"{root}_prepared", show_patients=True)
    source = open_source(data)
    slices = [source.load(index) for index in range(len(source.ids))]
    return digest(*(part for one in slices for part in one))


def _weights(path: Path) -> str:
    state = read_weights(path).state
    return digest(*(part for name in sorted(state) for part in (name, state[name])))


def _arrays(path: Path) -> str:
    arrays = read_arrays(path, "write it again")
    return digest(*(part for name in sorted(arrays) for part in (name, arrays[name])))


def _picture(mode: str, form: str) -> bytes:
    values = np.uint8(scan()[0] % 256)
    file = io.BytesIO()
    image = (
        Image.fromarray(values.astype(np.uint16) * 257)
        if mode == "I;16"
        else (Image.fromarray(values).convert(mode))
    )
    image.save(file, form)
    return file.getvalue()


def _compressed(syntax: str, path: Path) -> None:
    data = dicom_slice(scan(), 0)
    if syntax == JPEG2000Lossless:  # which pydicom decodes here, but does not encode
        frame = io.BytesIO()
        Image.fromarray(data.pixel_array).save(frame, "JPEG2000", no_jp2=True, irreversible=False)
        data.PixelData = encapsulate([frame.getvalue()])
    elif syntax == JPEGLSLossless:
        data.compress(syntax, generate_instance_uid=False)
    data.file_meta.TransferSyntaxUID = syntax
    save(data, path)


SCREENED: dict[str, Callable[[Path], object]] = {
    "grey.png": lambda path: path.write_bytes(_picture("L", "PNG")),
    "colour.png": lambda path: path.write_bytes(_picture("RGBA", "PNG")),
    "deep.png": lambda path: path.write_bytes(_picture("I;16", "PNG")),
    "a.jpg": lambda path: path.write_bytes(_picture("L", "JPEG")),
    "a.tif": lambda path: path.write_bytes(_picture("L", "TIFF")),
    "a.bmp": lambda path: path.write_bytes(_picture("L", "BMP")),
    "a.nii": lambda path: write_nifti(path, scan()),
    "a.nii.gz": lambda path: write_nifti(path, scan()),
    "a.dcm": lambda path: save(dicom_slice(scan(), 0), path),
    "deflated.dcm": lambda path: _compressed(DeflatedExplicitVRLittleEndian, path),
    "jpegls.dcm": lambda path: _compressed(JPEGLSLossless, path),
    "jpeg2000.dcm": lambda path: _compressed(JPEG2000Lossless, path),
    "frames.dcm": lambda path: write_frames(path, scan()),
}
CHECKED = ("grey.png", "colour.png", "deep.png", "a.nii.gz")  # by checksums of their own


def file_kinds(root: Path) -> dict[str, Kind]:
    """Returns scans, pictures, masks, tables, configurations and weights, written below `root`."""
    kinds = {}
    for name, write in SCREENED.items():
        folder = root / f"{name} ü 100%"
        (folder / GOOD).parent.mkdir(parents=True)
        (folder / GOOD).write_bytes(_picture("L", "PNG"))
        write(folder / name)
        kinds[name] = Kind(folder / name, _screened, checked=name in CHECKED)
    return kinds | _medium(root) | _folders(root) | _tables(root) | _weight_files(root)


def _medium(root: Path) -> dict[str, Kind]:
    files = FileSet()
    for k in range(3):
        stamps = {"StudyDate": "20200101", "StudyTime": "120000", "StudyID": "1", "SeriesNumber": 1}
        files.add(dicom_slice(scan(), k, **stamps))
    files.write(root / "medium")
    return {"DICOMDIR": Kind(root / "medium" / "DICOMDIR", _screened)}


def _folders(root: Path) -> dict[str, Kind]:
    pictures = root / "pictures"
    scans = root / "scans"
    for k, name in enumerate("abc"):
        for part, values in (("images", scan()[k] % 256), ("masks", scan()[k] % 2 * 255)):
            (pictures / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(values)).save(pictures / part / f"{name}.png")
        write_nifti(scans / "images" / f"{name}.nii.gz", scan())
        write_nifti(scans / "masks" / f"{name}.nii.gz", np.uint8(scan() % 2))
    rows = [f"images/{name}.png,{k % 2},p{k},train" for k, name in enumerate("abc")]
    index = root / "indexed" / "index.csv"
    shutil.copytree(pictures, index.parent)
    shutil.rmtree(index.parent / "masks")
    index.write_text("\n".join(["file,label,patient,split", *rows, ""]))
    return {
        "index.csv": Kind(index, lambda path: _source(path, "folder"), TEXT),
        "mask.png": Kind(pictures / "masks" / "b.png", lambda path: _source(path, "folder")),
        "mask.nii.gz": Kind(scans / "masks" / "b.nii.gz", lambda path: _source(path, "nifti")),
    }


def _tables(root: Path) -> dict[str, Kind]:
    root.joinpath("tables").mkdir()
    write_settings(root / "tables" / "config.json", read_settings(framework.get_config()))
    np.savez_compressed(root / "tables" / "arrays.npz", a=np.arange(99), b=np.ones((3, 4)))
    rows = [f"s{k},0.{k},p{k % 4}" for k in range(20)]
    root.joinpath("tables", "table.csv").write_text("\n".join(["id,share,patient", *rows]))
    return {
        "config.json": Kind(
            root / "tables" / "config.json", lambda path: load_settings(path.parent), JSON
        ),
        "arrays.npz": Kind(root / "tables" / "arrays.npz", _arrays, checked=True),
        "table.csv": Kind(
            root / "tables" / "table.csv", lambda path: read_rows(path, ["id"], "mend it"), TEXT
        ),
    }


def _weight_files(root: Path) -> dict[str, Kind]:
    contents = {f"{name}.pth": form(STATE) for name, form in FORMS.items()}
    contents["a.safetensors"] = safetensors.numpy.save(STATE)
    contents["keras.h5"] = keras_file(
        lambda layer, number, name, shape: np.ones([min(n, 2) for n in shape], np.float32)
    )
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return {name: Kind(root / name, _weights) for name in contents}


def run_kinds(workdir: Path, prepared: Path) -> dict[str, Kind]:
    """Returns what a finished run and its prepared data consist of.

    Leaves one checkpoint of each kind, so that a damaged one is not passed over.
    """
    kinds = {}

    def report(_: Path) -> str:
        with mock.patch.object(Figure, "savefig"):  # which takes most of the time
            page = build_report(workdir)
        return digest(page.read_text(), *read_row_arrays(workdir, "test").values())

    def splits(path: Path) -> str:
        return digest(*listed_splits(data, path, ("train", "val", "test")))

    def history(path: Path) -> bytes:
        rewind(path, "classifier", 10**9)
        report(path)
        return path.read_bytes()

    def restored(_: Path) -> str:
        found = load_trained("classifier", load_settings(workdir), workdir)[1]
        return digest(*jax.tree.leaves(jax.device_get(found)))

    def slices(_: Path) -> str:
        found = open_prepared(prepared)
        return digest(*(part for k in range(len(found)) for part in found.decode(k)))

    data = open_prepared(prepared)
    for path in [*workdir.glob("*.json"), *workdir.glob("results/**/*.*")]:
        # statistics and intensity are for other readers
        if path.suffix in (".json", ".csv", ".npz") and not path.name.startswith(("st", "in")):
            mutations = {".json": JSON, ".csv": TEXT}.get(path.suffix, BYTES)
            kinds[f"run/{path.name}"] = Kind(path, report, mutations, place=workdir)
    kinds["run/splits.json as split.path"] = Kind(workdir / "splits.json", splits, JSON)
    kinds["run/metrics.jsonl"] = Kind(workdir / "metrics.jsonl", history, TEXT)
    statistics = workdir / "statistics_classifier.json"
    kinds["run/statistics"] = Kind(statistics, restored, JSON)
    kinds["run/intensity"] = Kind(
        workdir / "intensity.json", lambda _: read_intensity(workdir), JSON
    )
    best = workdir / "checkpoints" / "classifier" / "best"
    *others, newest = sorted(best.glob("[0-9]*"), key=lambda folder: int(folder.name))
    for folder in others:
        shutil.rmtree(folder)
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        name = path.relative_to(newest).as_posix()
        name = "state/d/.." if path.parent.name == "d" else name
        kinds[f"checkpoint/{name}"] = Kind(path, restored, checked=True, place=best)
    for path in sorted(path for path in prepared.rglob("*") if path.is_file()):
        kinds[f"prepared/{path.name[:22]}"] = Kind(
            path, slices, JSON if path.suffix == ".json" else BYTES, place=Path(prepared.name)
        )
    return kinds


def all_kinds(root: Path) -> dict[str, Kind]:
    """Returns every kind of file; trains a small run for those of runs."""
    (root / "files").mkdir()
    config = tiny_config(root)
    settings = read_settings(config)
    train_run(settings, root / "run")
    prepare(settings.data)
    (prepared,) = (root / "prepared").glob("phantom-*/")
    return (
        file_kinds(root / "files")
        | written_kinds(root / "written")
        | screened_kinds(root / "run", root / "screening")
        | compared_kinds(root / "run", root / "comparison")
        | run_kinds(root / "run", prepared)
    )
