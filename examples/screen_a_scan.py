"""Screens a synthetic NIfTI scan with a small run from Python, and draws what was found.

python examples/screen_a_scan.py [WORKDIR [OUT.png]]
"""

import sys
from pathlib import Path

import nibabel
import numpy as np
import train_from_python
from matplotlib.figure import Figure

import covjax
from covjax.data.phantom.picture import phantom_slice

PATIENT = 101  # not one of those trained on
SLICES = 6


def write_scan(path: Path) -> list[np.ndarray]:
    """Writes slices of the phantom as a scan, values 0..255; returns their true masks [H, W]."""
    slices = [phantom_slice(PATIENT, k, slices_per_patient=SLICES, size=64) for k in range(SLICES)]
    volume = np.stack([image for image, _, _ in slices]).transpose(2, 1, 0)  # NIfTI: x, y, z
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-5.0, -5.0, 40.0, 1.0])), path)
    return [mask for _, mask, _ in slices]


def main(workdir: Path, picture: Path) -> None:
    if not (workdir / "results").is_dir():
        train_from_python.main(workdir)
    truth = write_scan(workdir / "scan.nii.gz")
    slices = np.asarray(nibabel.load(workdir / "scan.nii.gz").dataobj).transpose(2, 1, 0)
    found = list(covjax.Screener.from_workdir(workdir).screen(slices))
    figure = Figure(figsize=(9, 1.8), layout="constrained")
    for k, axes in enumerate(figure.subplots(1, SLICES)):
        axes.imshow(slices[k], cmap="gray", vmin=0, vmax=255)
        axes.contour(truth[k], [0.5], colors="#56B4E9", linewidths=1)
        axes.contour(found[k].mask, [0.5], colors="#E69F00", linewidths=1, linestyles="dashed")
        axes.set_title(f"marked: {found[k].share:.1%}", fontsize=8)
        axes.set_axis_off()
    figure.savefig(picture, dpi=100)
    print(f"{picture}: marked share of each slice", [round(result.share, 3) for result in found])


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *[Path("runs/small"), Path("scan.png")][len(given) :])
