"""The configuration of a run: typed sections, checked as they are read.

Sections: `RunSettings` and `StudySettings` here; the others with what they are for, in
`covjax.data.settings`, `covjax.preprocess.settings`, `covjax.optim.settings` and
`covjax.stages.settings`.
"""

from covjax.settings.files import (
    check_workdir,
    claim_workdir,
    fields_that_may_change,
    load_settings,
    write_settings,
)
from covjax.settings.read import (
    default_config,
    default_study,
    read_arguments,
    read_settings,
    settings_dict,
)
from covjax.settings.sections import RunSettings, StudySettings

__all__ = [
    "RunSettings",
    "StudySettings",
    "check_workdir",
    "claim_workdir",
    "default_config",
    "default_study",
    "fields_that_may_change",
    "load_settings",
    "read_arguments",
    "read_settings",
    "settings_dict",
    "write_settings",
]
