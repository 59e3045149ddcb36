"""The phantom as a source: synthetic chest CT, generated as it is read."""

from pathlib import Path

from covjax.data.contents import origin
from covjax.data.phantom.picture import PHANTOM_VERSION, phantom_slice
from covjax.data.settings import DataSettings
from covjax.data.sources.source import Slice, Source, fingerprint
from covjax.data.sources.spec import SourceSpec
from covjax.errors import InputError


def open_phantom(_: Path, config: DataSettings) -> Source:
    """Opens the slices that `config.phantom` describes. Raises InputError."""
    p = config.phantom
    if p.patients < 1 or p.slices_per_patient < 1 or p.size < 32:
        raise InputError(
            "data.phantom: patients and slices_per_patient must be at least 1 and size at least 32"
        )
    places = [(k, index) for k in range(p.patients) for index in range(p.slices_per_patient)]
    ids = tuple(f"phantom{patient:04d}_{index:03d}" for patient, index in places)

    def load(i: int) -> Slice:
        patient, index = places[i]
        image, mask, label = phantom_slice(
            patient, index, slices_per_patient=p.slices_per_patient, size=p.size, seed=p.seed
        )
        return Slice(ids[i], image, mask, label, f"phantom{patient:04d}")

    made = ["phantom", PHANTOM_VERSION, p.slices_per_patient, p.size, p.seed]
    origins = tuple(origin(*made, i) for i in range(len(ids)))
    return Source("phantom", ids, load, fingerprint([*made, p.patients]), origins)


PHANTOM = SourceSpec(
    "phantom",
    "synthetic axial chest CT, generated",
    open_phantom,
    "as many slices and patients as data.phantom says; patients and masks are known",
    has_spacing=False,
    has_classes=False,
)
