"""From a configuration, as files and flags make it, to checked settings, and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ml_collections import ConfigDict

from covjax.data.settings import DataSettings
from covjax.errors import InputError, unknown
from covjax.fields import declared, read_section, to_dict
from covjax.settings.checks import check_data, check_stage
from covjax.settings.sections import RunSettings, StudySettings
from covjax.stages import TASKS, task_of
from covjax.stages.settings import StageSettings


def read_arguments(given: str, **defaults: str) -> dict[str, str]:
    """Reads what follows the colon in --config=FILE:name=value,name=value.

    Raises InputError for another name than those of `defaults`, and for one without a value.
    """
    values = dict(defaults)
    for part in filter(None, map(str.strip, given.split(","))):
        name, equals, value = part.partition("=")
        if name not in defaults:
            raise unknown("argument", name, defaults)
        if not equals or not value:
            raise InputError(f"argument {name}: has no value, write {name}={defaults[name]}")
        values[name] = value
    return values


def default_config(*stages: str) -> ConfigDict:
    """Returns the configuration of a run with these stages in which every field has its default."""
    settings = RunSettings(stages={name: task_of(name).settings() for name in stages})
    return ConfigDict(settings_dict(settings))


def default_study(variants: Mapping[str, Any], **values: Any) -> ConfigDict:
    """Returns the section `study` with these variants, in their order, and these values."""
    config = ConfigDict(to_dict(StudySettings()) | values)
    config.variants = ConfigDict(dict(variants), sort_keys=False)
    return config


def read_settings(config: ConfigDict | Mapping[str, Any]) -> RunSettings:
    """Returns the settings of a run, checked, with nothing left open.

    Raises InputError naming the first field that is missing, unknown or whose value cannot be used.
    """
    values = dict(config.to_dict() if isinstance(config, ConfigDict) else config)
    known = [*declared(RunSettings()), *TASKS, "study"]
    if values.keys() - known:
        raise unknown("config", min(values.keys() - known), known)
    stages = {name: values.pop(name) for name in TASKS if name in values}
    if not stages:
        raise InputError(f"config: has no stage, add one of {', '.join(TASKS)}")
    study = None
    if "study" in values:
        study = read_section(StudySettings(), values.pop("study"), "study")
    settings = read_section(RunSettings(study=study), values, "")
    check_data(settings.data)
    read = {name: _read_stage(name, stage, settings.data) for name, stage in stages.items()}
    return replace(settings, stages=read)


def _read_stage(name: str, values: object, data: DataSettings) -> StageSettings:
    stage = read_section(task_of(name).settings(), values, name)
    if stage.input.normalize == "auto":
        normalize = "zero_center" if stage.init.weights == "none" else "pretrained"
        stage = replace(stage, input=replace(stage.input, normalize=normalize))
    check_stage(name, stage, data)
    return stage


def settings_dict(settings: RunSettings) -> dict[str, Any]:
    """Returns settings as the nested dictionaries that `read_settings` takes."""
    values = to_dict(settings)
    values |= {name: to_dict(stage) for name, stage in settings.stages.items()}
    if settings.study is not None:
        values["study"] = to_dict(settings.study)
    return values
