"""A stage: a network, its task, and what was measured on the training split."""

from collections.abc import Callable

from covjax.data.label_map import class_names
from covjax.data.settings import DataSettings
from covjax.stages.classification import classification_task
from covjax.stages.segmentation import segmentation_task
from covjax.stages.task import Task

# Stage (section of a configuration and of summary.json) -> its task, made for the classes of the
# masks; in the order in which a run trains them.
TASKS: dict[str, Callable[[tuple[str, ...]], Task]] = {
    "classifier": classification_task,
    "segmenter": segmentation_task,
}


def task_of(name: str, data: DataSettings | None = None) -> Task:
    """Returns the task of a stage for the masks of `data`; None: infected or not."""
    return TASKS[name](class_names("" if data is None else data.classes))
