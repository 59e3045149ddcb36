"""Checkpoints: whatever happens to a file on disk, what comes back is exactly what was saved, or
nothing.
"""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covjax.errors import RunError
from covjax.training.checkpoint import KEEP, Checkpoints, digest


def tree(step):
    rng = np.random.default_rng(step)
    return {
        "w": jnp.asarray(rng.normal(size=(64, 65)), jnp.float32),
        "step": jnp.int32(step),
        "none": None,
    }


def written(folder, steps=(1, 2)):
    checkpoints = Checkpoints(folder, write=True)
    for step in steps:
        checkpoints.save(step, tree(step), {"epoch": step, "score": 0.1 * step, "best": None})
    checkpoints.close()
    return folder


def restored(folder, **kwargs):
    checkpoints = Checkpoints(folder, **kwargs)
    try:
        return checkpoints.restore(tree(0))
    finally:
        checkpoints.close()


def assert_is(found, step):
    got, info = found
    assert info == {"epoch": step, "score": 0.1 * step, "best": None}
    jax.tree.map(np.testing.assert_array_equal, got, tree(step))
    assert got["w"].dtype == jnp.float32 and got["step"].dtype == jnp.int32


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


DAMAGES = {
    "flip": flip,
    "truncate": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "delete": lambda path: path.unlink(),
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return written(tmp_path_factory.mktemp("intact") / "latest")


def test_newest_comes_back_exactly_and_few_are_kept(tmp_path):
    folder = written(tmp_path / "latest", steps=(1, 2, 3, 4))
    assert_is(restored(folder), 4)
    assert sorted(p.name for p in folder.iterdir()) == [str(k) for k in range(5 - KEEP, 5)]


def test_nothing_written_is_none(tmp_path):
    assert restored(tmp_path / "latest", write=True) is None


# of orbax's, about reads it gave up
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_damage_to_every_file_is_harmless_or_noticed(intact, tmp_path, caplog):
    names = [
        p.relative_to(intact)
        for p in sorted((intact / "2").rglob("*"))
        if p.is_file() and p.stat().st_size
    ]
    noticed = 0
    for kind, damage in DAMAGES.items():
        for k, name in enumerate(names):
            folder = tmp_path / f"{kind}{k}"
            shutil.copytree(intact, folder)
            damage(folder / name)
            caplog.clear()
            found = restored(folder)
            assert_is(found, int(found[0]["step"]))
            if int(found[0]["step"]) == 1:
                noticed += 1
                assert f"{folder / '2'}: damaged checkpoint" in caplog.text
    assert noticed >= 2 * len(DAMAGES)


def test_a_reader_changes_nothing(intact, tmp_path):
    folder = tmp_path / "best"
    shutil.copytree(intact, folder)
    busy = folder / "3.orbax-checkpoint-tmp-0"  # what a training is writing at this moment
    busy.mkdir()
    flip(max((folder / "2" / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size))
    before = sorted(folder.rglob("*"))
    assert_is(restored(folder), 1)
    assert sorted(folder.rglob("*")) == before


def test_a_training_replaces_the_damaged_one(intact, tmp_path):
    folder = tmp_path / "latest"
    shutil.copytree(intact, folder)
    flip(max((folder / "2" / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size))
    checkpoints = Checkpoints(folder, write=True)
    assert_is(checkpoints.restore(tree(0)), 1)
    checkpoints.save(2, tree(2), {"epoch": 2, "score": 0.2, "best": None})
    checkpoints.close()
    assert_is(restored(folder), 2)


@pytest.mark.parametrize("write", [False, True])
def test_all_damaged_is_an_error_every_time(intact, tmp_path, write):
    folder = tmp_path / "latest"
    shutil.copytree(intact, folder)
    for step in ("1", "2"):
        flip(
            max(
                (folder / step / "state").rglob("*"), key=lambda p: p.is_file() and p.stat().st_size
            )
        )
    for _ in range(2):
        with pytest.raises(RunError, match="every checkpoint is damaged"):
            restored(folder, write=write)


def test_a_step_already_there_is_kept(intact, tmp_path):
    folder = tmp_path / "latest"
    shutil.copytree(intact, folder)
    checkpoints = Checkpoints(folder, write=True)
    checkpoints.save(2, tree(7), {})
    checkpoints.close()
    assert_is(restored(folder), 2)


def test_digest_sees_arrays_and_info():
    sums = {digest(tree(1), {"a": 1}), digest(tree(2), {"a": 1}), digest(tree(1), {"a": 2})}
    assert len(sums) == 3
    assert digest(tree(1), {"a": 1}) in sums
