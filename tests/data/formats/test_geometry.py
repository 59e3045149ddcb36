"""Volumes of voxels are |det| of the affine and masks lie where their scans lie, whatever the
grid.
"""

import shutil
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from covjax.data.formats import series
from covjax.data.formats.dicom import Frame, Tags
from covjax.data.formats.nifti import mask_files, open_nifti, write_mask
from covjax.data.formats.scans import find_scans
from covjax.data.formats.series import open_series
from covjax.screening.extent import mask_columns, scan_line, slice_line, voxel_size
from covjax.screening.inputs import Scan
from covjax.screening.overlays import class_areas, class_volumes, mask_notes
from covjax.screening.screener import ScreenedSlice
from tests.data.written import dicom_slice, save

MARKED = 300  # HU from which on a voxel is marked
COUNT = 200
IN_MEMORY = {}  # values of series without files, by their path
FILES = 15  # series of these that are written as files


@pytest.fixture(autouse=True)
def frames_in_memory(monkeypatch):
    """Lets series be read whose frames are in no file."""
    real = series.read_frame

    def found(frame):
        return IN_MEMORY[frame.path][frame.index] if frame.path in IN_MEMORY else real(frame)

    monkeypatch.setattr(series, "read_frame", found)


def screened(volume):
    """The lines of a volume whose infection is what is above MARKED, as screening sums them up."""
    scan = Scan("a", volume.path, "hu", range(len(volume)), [volume.path], volume.read, volume)
    lines = []
    sums = {"infected": 0.0, "lung": 0.0, "in_lung": 0.0}
    masks = []
    for k in range(len(volume)):
        mask = np.uint8(volume.read(k) > MARKED)
        masks.append(mask)
        lines.append(slice_line(scan, k, ScreenedSlice(0.5, True, mask, float(mask.mean()))))
        lines[-1] |= mask_columns(scan, mask, {"outside": 0, "in_lung": 0, "lung": 0})
        lines[-1] |= class_areas(mask, ("a", "b"), volume.spacing)
        for part in sums:
            sums[part] += mask.sum() * voxel_size(scan, k)
    return (
        scan_line(scan, None, lines, sums | {"outside": 0.0}) | class_volumes(lines, ("a", "b")),
        lines,
        masks,
    )


def check_ml(volume, ml):
    """Checks that all that is said of the volume of the marked voxels is `ml`; returns their masks
    and what is said.
    """
    summed, lines, masks = screened(volume)
    by_slice = sum(line["infected_mm2"] * line["extent_mm"] for line in lines) / 1000
    for found in (summed["infected_ml"], summed["lung_ml"], summed["a_ml"], by_slice):
        assert found == pytest.approx(ml, rel=1e-6)
    assert summed["b_ml"] == 0
    return masks, summed["infected_ml"]


def places(path):
    """World positions of the marked voxels of NIfTI masks, in some order, and their volume in
    ml.
    """
    images = [nibabel.load(path) for path in path.parent.glob("mask*")]
    found = [
        nibabel.affines.apply_affine(i.affine, np.argwhere(np.asarray(i.dataobj))) for i in images
    ]
    ml = sum(
        abs(np.linalg.det(i.affine[:3, :3])) * np.asarray(i.dataobj).sum() / 1000 for i in images
    )
    return np.concatenate(found), ml


def same_places(found, expected, atol):
    assert len(found) == len(expected)
    distance = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    assert distance.min(1).max() < atol and distance.min(0).max() < atol


def turned(rng, degrees=25):
    return Rotation.from_rotvec(
        np.deg2rad(rng.uniform(-degrees, degrees, 3) / np.sqrt(3))
    ).as_matrix()


def values(rng, shape):
    return rng.integers(-1000, 400, shape).astype(np.int16)


def test_any_nifti_affine(tmp_path):
    for k in range(COUNT):
        rng = np.random.default_rng(k)
        affine = np.eye(4)
        shear = np.eye(3) + np.triu(rng.uniform(-0.4, 0.4, (3, 3)), 1) * rng.integers(0, 2)
        affine[:3, :3] = (
            turned(rng) @ shear @ np.diag(rng.uniform(0.5, 5, 3) * rng.choice([-1, 1], 3))
        )
        affine[:3, :3] = affine[:3, :3][:, rng.permutation(3)]
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        array = values(rng, (5, 6, 7))
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "a.nii")
        volume = open_nifti(tmp_path / "a.nii", "hu")
        affine = nibabel.load(tmp_path / "a.nii").affine
        ml = abs(np.linalg.det(affine[:3, :3])) * (array > MARKED).sum() / 1000
        write_mask(tmp_path / "mask.nii", check_ml(volume, ml)[0], volume)
        assert np.prod(volume.spacing) == pytest.approx(
            abs(np.linalg.det(affine[:3, :3])), rel=1e-6
        )
        same_places(
            places(tmp_path / "mask.nii")[0],
            nibabel.affines.apply_affine(affine, np.argwhere(array > MARKED)),
            1e-3,
        )


def text(numbers):
    return [f"{number:.9g}" for number in numbers]


class Made(SimpleNamespace):
    """A made-up DICOM series: `positions` [N, 3] of its slices, `row` and `column` steps in mm, all
    as DICOM has it.
    """

    def tags(self, rng, jitter):
        """Position, orientation and pixel spacing of each slice, as DICOM writes numbers."""
        turn = np.concatenate(
            [self.row / np.linalg.norm(self.row), self.column / np.linalg.norm(self.column)]
        )
        spacing = text([np.linalg.norm(self.column), np.linalg.norm(self.row)])
        for position in self.positions:
            nudges = rng.uniform(-jitter, jitter, 9)
            yield text(position + nudges[:3]), text(turn + nudges[3:]), spacing

    def open(self, folder, rng, jitter=0.0, files=False):
        """Opens the series; most without files, which take long to write."""
        self.values = values(rng, (len(self.positions), 4, 5))
        if not files:
            frames = []
            for k, tags in enumerate(self.tags(rng, jitter)):
                position, orientation, spacing = (tuple(map(float, numbers)) for numbers in tags)
                frame = Frame(
                    folder,
                    k,
                    (4, 5),
                    position,
                    orientation,
                    (k, k),
                    spacing,
                    9.0,
                    1.0,
                    0.0,
                    False,
                    True,
                    None,
                    0,
                )
                frames.append(frame)
            IN_MEMORY[folder] = self.values
            return open_series(folder, Tags("", "", "", ""), frames[::-1])
        IN_MEMORY.clear()
        shutil.rmtree(folder, ignore_errors=True)
        for k, tags in enumerate(self.tags(rng, jitter)):
            data = dicom_slice(self.values, k)
            data.ImagePositionPatient, data.ImageOrientationPatient, data.PixelSpacing = tags
            save(data, folder / f"{9 - k}")
        (opener,) = find_scans(folder).values()
        return opener()

    def marked(self):
        """World positions of the marked voxels, as NIfTI has them."""
        k, y, x = np.argwhere(self.values > MARKED).T
        found = self.positions[k] + y[:, None] * self.column + x[:, None] * self.row
        return found * [-1, -1, 1]

    def area(self):
        return np.linalg.norm(np.cross(self.row, self.column))


def made_up(rng, gaps):
    """A series with a turned patient, a tilted gantry and any directions of rows and columns; its
    step in mm.
    """
    axes = turned(rng)
    if rng.integers(2):
        axes = axes @ np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    row, column = (axes[:, k] * rng.uniform(0.5, 1) * rng.choice([-1, 1]) for k in (0, 1))
    step = rng.uniform(1, 6)
    along = step * np.cross(row, column) / np.linalg.norm(np.cross(row, column))
    along += (rng.uniform(-0.5, 0.5) * column + rng.uniform(-0.5, 0.5) * row) * rng.integers(0, 2)
    heights = np.concatenate([[0], np.cumsum(gaps)])
    return Made(
        row=row, column=column, positions=rng.uniform(-200, 200, 3) + heights[:, None] * along
    ), step


def test_any_dicom_series(tmp_path):
    for k in range(COUNT):
        rng = np.random.default_rng(k)
        gaps = np.ones(6)
        gaps[rng.permutation([0, 2, 5])[: rng.integers(0, 3)]] += rng.integers(1, 40)
        made, step = made_up(rng, gaps)
        volume = made.open(tmp_path / "in", rng, jitter=1e-6, files=k < FILES)
        masks, said = check_ml(volume, step * made.area() * (made.values > MARKED).sum() / 1000)
        write_mask(tmp_path / "mask.nii", masks, volume)
        found, ml = places(tmp_path / "mask.nii")
        same_places(found, made.marked(), 1e-3)
        assert ml == pytest.approx(said, rel=1e-6)
        assert bool(volume.notes) == (gaps.max() > 1) and mask_files(
            tmp_path / "mask.nii", volume
        ) == [tmp_path / "mask.nii"]


def test_series_of_several_even_runs(tmp_path):
    for k in range(COUNT // 4):
        rng = np.random.default_rng(k)
        first = rng.uniform(1, 3)
        second = rng.uniform(4, 6)
        made, step = made_up(rng, [first] * rng.integers(1, 4) + [second] * rng.integers(2, 4))
        volume = made.open(tmp_path / "in", rng, files=k < FILES)
        normal = np.cross(made.row, made.column) / made.area()
        apart = np.diff(made.positions @ normal)
        extents = [min([*apart[max(0, i - 1) : i + 1]]) for i in range(len(made.positions))]
        counts = (made.values > MARKED).sum((1, 2))
        masks, said = check_ml(volume, (counts * extents).sum() * made.area() / 1000)
        for old in tmp_path.glob("mask*"):
            old.unlink()
        write_mask(tmp_path / "mask.nii.gz", masks, volume)
        files = mask_files(tmp_path / "mask.nii.gz", volume)
        assert (
            len(files) == 2 == len(list(tmp_path.glob("mask*")))
            and files[1].name == "mask.2of2.nii.gz"
        )
        found, ml = places(tmp_path / "mask.nii.gz")
        same_places(found, made.marked(), 1e-3)
        assert ml == pytest.approx(said, rel=1e-6)
        assert "not evenly spaced" in volume.notes[0] and "2 files" in " ".join(
            mask_notes(volume, 2, False)
        )
