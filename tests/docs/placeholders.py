"""Folders of phantom slices in the place of data that the pages name in capitals."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from covjax.data.phantom.picture import phantom_slice
from tests.data.written import write_nifti, write_series

PATIENTS = 10
SLICES = 5
CT = (slice(16, 264), slice(40, 263))  # of a figure of prlab21
FIGURE = 304


def make_placeholders(folder: Path) -> None:
    """Writes every placeholder that a shell block of the pages uses into a folder."""
    _pictures(folder / "MY_SLICES", "index.csv")
    _pictures(folder / "OTHER_SLICES", "index.csv")
    _predictions(folder)
    _pictures(folder / "SEMISEG", None)
    _figures(folder / "PRLAB21")
    _scans(folder / "MY_SCANS")
    _series(folder / "MY_DICOM")
    _medseg(folder / "MEDSEG1")
    image = phantom_slice(0, 2, slices_per_patient=SLICES, size=128)[0]
    Image.fromarray(image).save(folder / "SLICE.png")


def _slices(size: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray, int]]:
    """Yields patient, number, image, mask and label of every slice."""
    for patient in range(PATIENTS):
        for k in range(SLICES):
            yield patient, k, *phantom_slice(patient, k, slices_per_patient=SLICES, size=size)


def _volumes() -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yields patient, HU int16 and mask [slices, rows, columns] of every scan."""
    for patient in range(PATIENTS):
        slices = [
            phantom_slice(patient, k, slices_per_patient=SLICES, size=64) for k in range(SLICES)
        ]
        values = np.stack([image for image, _, _ in slices]).astype(np.float32)
        hu = np.round(np.maximum(values / 255 * 1500 - 1350, -1000)).astype(np.int16)
        yield patient, hu, np.stack([mask for _, mask, _ in slices])


def _save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.astype(np.uint8)).save(path)


def _predictions(folder: Path) -> None:
    """Writes what two tools say of the same slices: masks, and probabilities."""
    truth = ["id,label,patient"]
    calls = ["id,probability"]
    for patient, k, _, mask, label in _slices(64):
        _save(folder / "TRUE_MASKS" / f"p{patient}_{k}.png", mask * 255)
        _save(folder / "PREDICTED_MASKS" / f"p{patient}_{k}.png", np.roll(mask, 2, 0) * 255)
        truth.append(f"p{patient}_{k},{label},p{patient}")
        calls.append(f"p{patient}_{k},{0.3 + 0.4 * label}")
    (folder / "TRUTH.csv").write_text("\n".join(truth))
    (folder / "PREDICTED.csv").write_text("\n".join(calls))


def _pictures(folder: Path, index: str | None) -> None:
    lines = ["file,label,patient"]
    for patient, k, image, mask, label in _slices(64):
        name = f"p{patient}_{k}.png"
        if index is None and not label:
            continue
        _save(folder / "images" / name, image)
        _save(folder / "masks" / name, mask * 255)
        lines.append(f"{name},{label},P{patient}")
    if index is not None:
        (folder / index).write_text("\n".join(lines) + "\n")


def _figures(folder: Path) -> None:
    """Slices within figures whose margin is white and labelled, as in the paper's release."""
    lines = ["id,label,patient"]
    rows, columns = (part.stop - part.start for part in CT)
    for patient, k, image, mask, label in _slices(128):
        figure = np.full((FIGURE, FIGURE), 255, np.uint8)
        lesion = figure.copy()
        figure[CT] = Image.fromarray(image).resize((columns, rows))
        lesion[CT] = Image.fromarray(mask * 255).resize((columns, rows), Image.Resampling.NEAREST)
        _save(folder / "images" / f"s{patient}_{k}.png", figure)
        if label:
            _save(folder / "masks" / f"s{patient}_{k}.png", lesion)
        lines.append(f"s{patient}_{k},{label},{patient}")
    (folder / "index.csv").write_text("\n".join(lines) + "\n")


def _scans(folder: Path) -> None:
    for patient, hu, mask in _volumes():
        write_nifti(folder / "images" / f"scan{patient}.nii.gz", hu)
        write_nifti(folder / "masks" / f"scan{patient}.nii.gz", mask)


def _series(folder: Path) -> None:
    for patient, hu, mask in _volumes():
        tags = {"PatientID": f"P{patient}", "StudyInstanceUID": f"1.2.4.{patient}"}
        tags |= {"SeriesInstanceUID": f"1.2.5.{patient}", "FrameOfReferenceUID": f"1.2.6.{patient}"}

        def number(data, k, patient=patient):
            data.SOPInstanceUID = f"1.2.3.{patient}.{k}"

        write_series(folder / "images" / f"series{patient}", hu, number, **tags)
        write_nifti(folder / "masks" / f"series{patient}.nii.gz", mask)


def _medseg(folder: Path) -> None:
    """One file of slices, one of masks in which infection is of classes 1, 2 and 3."""
    scans = list(_volumes())
    hu = np.concatenate([values for _, values, _ in scans])
    mask = np.concatenate([mask for _, _, mask in scans])
    columns = np.arange(mask.shape[2]) % 3 + 1
    write_nifti(folder / "tr_im.nii.gz", hu)
    write_nifti(folder / "tr_mask.nii.gz", (mask * columns).astype(np.uint8))
