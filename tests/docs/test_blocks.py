"""The shell blocks of the pages: few are not run, and those that train nothing run here.

All of them: python -m tests.docs.run_blocks
"""

import pytest

from tests.docs.run_blocks import NOT_RUN, STATUS, Place, blocks, prepare

BLOCKS = {block.name: block for block in blocks()}
FAST = [
    "docs/explanation/paper.md:1",  # an audit
    "docs/how-to/reproduce-paper.md:4",  # the enhancement
    "docs/how-to/train-own-data.md:4",  # a picture of the augmentation
]


def test_few_blocks_are_not_run():
    assert len(NOT_RUN) <= 10
    assert {*NOT_RUN, *STATUS, *FAST} <= set(BLOCKS)
    assert all(NOT_RUN.values())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("blocks"))


@pytest.mark.parametrize("name", FAST)
def test_it_runs(name, data, tmp_path):
    assert Place(tmp_path / "page", data).run(BLOCKS[name]) == ""
