"""All sources of slices. A source lists its slices cheaply and decodes one at a time."""

from pathlib import Path

from covjax.data.label_map import class_names
from covjax.data.resizing import SPACINGS
from covjax.data.settings import DataSettings
from covjax.data.sources.index import PATIENT
from covjax.data.sources.phantom import PHANTOM
from covjax.data.sources.pictures import FOLDER
from covjax.data.sources.prlab21 import PRLAB21
from covjax.data.sources.public import PUBLIC
from covjax.data.sources.scan_folders import DICOM, NIFTI
from covjax.data.sources.source import Source
from covjax.errors import InputError, unknown

SOURCES = {spec.name: spec for spec in (FOLDER, PHANTOM, PRLAB21, NIFTI, DICOM, *PUBLIC.values())}


def open_source(config: DataSettings) -> Source:
    """Opens the source that `config` (the `data` section of a run) names.

    Raises InputError for an unknown source, a path that is not a folder, or a folder that is not of
    the source's form.
    """
    if config.source not in SOURCES:
        raise unknown("data.source", config.source, SOURCES)
    spec = SOURCES[config.source]
    if not spec.has_classes and len(class_names(config.classes)) > 2:
        raise InputError(
            f"data.classes: the masks of {spec.name} know infected or not only, leave it empty"
        )
    check_spacing(config.spacing, spec.name)
    _check_patient_fields(config)
    root = Path(config.path)
    if spec.unpack and not config.path:
        where = f" (get them from {spec.where})" if spec.where else ""
        raise InputError(
            f"data.path: empty, name the folder that holds the {spec.name} slices{where}"
        )
    if spec.unpack and not root.is_dir():
        raise InputError(
            f"data.path: {root} is not a folder, check the path (of moved data: --config.data.path "
            "in training, --data_path in evaluation)"
        )
    return spec.open(root, config)


def check_spacing(wanted: float, source: str) -> None:
    """Raises InputError if slices of a source cannot have pixels of `wanted` mm (0: as stored)."""
    low, high = SPACINGS
    if wanted and not low <= wanted <= high:
        raise InputError(
            f"data.spacing: {wanted} must be 0 (as stored) or {low:g} to {high:g} mm per pixel"
        )
    if wanted and not SOURCES[source].has_spacing:
        raise InputError(
            f"data.spacing: {wanted:g}, but slices of data.source={source} hold no spacing, set 0 "
            "or use nifti or dicom"
        )


def _check_patient_fields(config: DataSettings) -> None:
    """Raises InputError for fields on patients that the source would not heed."""
    column = config.patient_column
    pattern = config.patient_pattern
    named = column.strip().lower() != PATIENT
    if (named or pattern) and not SOURCES[config.source].declares_patients:
        field, value = ("patient_column", column) if named else ("patient_pattern", pattern)
        raise InputError(
            f"data.{field}: '{value}', but data.source={config.source} says itself which patient a "
            "slice is of, leave the field out"
        )
    if named and pattern:
        raise InputError(
            f"data.patient_column: '{column}', but data.patient_pattern finds patients in names, "
            "leave one of them out"
        )
