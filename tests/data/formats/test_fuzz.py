"""Files of every kind, damaged at random: what can be read is read, the rest is one line that names
the file.
"""

import io
import json
import os
import re
import resource
import signal
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from covjax.configs import framework
from covjax.data.intensity import eight_bit
from covjax.data.sources.registry import open_source
from covjax.errors import InputError
from covjax.screening.inputs import find_screened
from covjax.settings import default_config, load_settings, read_settings, write_settings
from tests.data.written import dicom_slice, save, scan, write_frames, write_nifti

EACH = int(os.environ.get("COVJAX_FUZZ", 40))  # mutations per kind of file
HANGING = 60  # seconds after which one file counts as hanging
MEMORY = 1 << 30  # bytes by which all of them together may raise the peak
NUMBERS = [
    b"\xff" * 8,
    b"\x00\x00\xc0\x7f" * 2,
    b"\x00\x00\x80\x7f" * 2,
    b"\xff\xff\xff\x7f" * 2,
    b"\x00\x80" * 4,
    b"\x00" * 8,
]
WORDS = (
    "../../../etc/passwd", "/dev/zero", "NaN", "-Infinity", "1e999", "-1", "", '"', "\0", "%s%n",
    "\u202eü", "[]", "{}",
    "null", "true", "9" * 40, "a" * 5000, "0.5", "images/../../x.png", "\n", ",", "images",
)  # fmt: skip
VALUES = (
    None,
    True,
    -1,
    0,
    0.5,
    2**70,
    float("nan"),
    float("inf"),
    "",
    "x",
    "ü/../%",
    [],
    {},
    [1, 2],
    [[]],
    {"a": 1},
)


def flipped(rng, data):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 20)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def overwritten(rng, data):
    """Puts a huge number, NaN, infinity or zero where the header is."""
    number = NUMBERS[rng.integers(len(NUMBERS))]
    place = int(rng.integers(0, min(len(data), 400))) & ~1
    number = number[: int(rng.choice([2, 4, 8]))]
    return data[:place] + number + data[place + len(number) :]


def blanked(rng, data):
    start, stop = np.sort(rng.integers(0, len(data), 2))
    return data[:start] + bytes(stop - start) + data[stop:]


MUTATIONS = {
    "truncated": lambda rng, data: data[: rng.integers(len(data))],
    "flipped": flipped,
    "overwritten": overwritten,
    "blanked": blanked,
    "other magic": lambda rng, data: rng.bytes(8) + data[8:],
    "inserted": lambda rng, data: (
        data[: (place := rng.integers(len(data)))] + rng.bytes(16) + data[place:]
    ),
    "twice": lambda rng, data: data + data,
}


def reworded(rng, data):
    """Replaces a word of a text by one that a hostile or careless author may have written."""
    words = list(re.finditer(rb"[\w./+-]+", data))
    word = words[rng.integers(len(words))]
    return data[: word.start()] + WORDS[rng.integers(len(WORDS))].encode() + data[word.end() :]


TEXT = MUTATIONS | {
    "reworded": reworded,
    "reworded twice": lambda rng, data: reworded(rng, reworded(rng, data)),
}


def revalued(rng, data):
    """Gives one field of a configuration a value of another kind."""
    config = json.loads(data)
    section = config
    while (
        isinstance(section[name := list(section)[rng.integers(len(section))]], dict)
        and rng.random() < 0.95
    ):
        section = section[name]
    section[name] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(config).encode()


JSON = TEXT | {f"revalued {k}": revalued for k in range(len(TEXT))}  # half of them


def encoded(kind):
    file = io.BytesIO()
    Image.fromarray(np.uint8(scan()[0] % 256)).save(file, kind)
    return file.getvalue()


def written(tmp_path, name, write):
    write(tmp_path / name)
    return (tmp_path / name).read_bytes()


def screened(path):
    errors = []
    found, _ = find_screened(path.parent, "auto", 16, errors.append)
    for opener in found.values():
        try:
            one = opener()
            for index in range(len(one)):
                values = one.read(index)
                assert values.ndim == 2 and eight_bit(values, None).dtype == np.uint8
        except InputError as error:
            errors.append(error)
    assert found and len(errors) <= 1  # the good picture beside it is found whatever happens
    if errors:
        raise errors[0]


def read_source(path):
    config = default_config().data
    config.update(
        source="folder",
        path=str(path.parent),
        prepared_dir=f"{path.parent}_prepared",
        show_patients=True,
    )
    source = open_source(config)
    for index in range(len(source.ids)):
        source.load(index)


def prepare(kind, tmp_path):
    """Returns (file, its valid content, what reads it)."""
    folder = tmp_path / "in ü 100%"
    folder.mkdir()
    if kind == "config.json":
        write_settings(folder / kind, read_settings(framework.get_config()))
        return (
            folder / kind,
            (folder / kind).read_bytes(),
            lambda path: load_settings(path.parent),
        )
    if kind == "index.csv":
        for name in "abc":
            Image.fromarray(np.uint8(scan()[0] % 256)).resize((20, 24)).save(folder / f"{name}.png")
        rows = [f"{name}.png,{k % 2},p{k},train" for k, name in enumerate("abc")]
        return (
            folder / kind,
            "\n".join(["file,label,patient,split", *rows, ""]).encode(),
            read_source,
        )
    (folder / "good").mkdir()
    (folder / "good" / "one.png").write_bytes(encoded("PNG"))
    data = {
        "a.png": lambda: encoded("PNG"),
        "a.jpg": lambda: encoded("JPEG"),
        "a.tif": lambda: encoded("TIFF"),
        "a.nii": lambda: written(tmp_path, "a.nii", lambda path: write_nifti(path, scan())),
        "a.nii.gz": lambda: written(tmp_path, "a.nii.gz", lambda path: write_nifti(path, scan())),
        "a.dcm": lambda: written(
            tmp_path, "a.dcm", lambda path: save(dicom_slice(scan(), 0), path)
        ),
        "frames.dcm": lambda: written(tmp_path, "b.dcm", lambda path: write_frames(path, scan())),
    }[kind]()
    return folder / kind, data, screened


def hanging(*_):
    raise AssertionError("hangs")


@pytest.mark.parametrize(
    "kind",
    [
        "a.png",
        "a.jpg",
        "a.tif",
        "a.nii",
        "a.nii.gz",
        "a.dcm",
        "frames.dcm",
        "index.csv",
        "config.json",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_mutations(tmp_path, kind):
    path, valid, read = prepare(kind, tmp_path)
    path.write_bytes(valid)
    read(path)
    mutations = {"index.csv": TEXT, "config.json": JSON}.get(kind, MUTATIONS)
    rng = np.random.default_rng(len(kind))
    counts = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    earlier = signal.signal(signal.SIGALRM, hanging)
    try:
        for number in range(EACH):
            name = list(mutations)[number % len(mutations)]
            path.write_bytes(mutations[name](rng, valid))
            signal.alarm(HANGING)
            try:
                read(path)
                counts["read"] += 1
            except InputError as error:
                message = str(error)
                assert path.name in message or str(path.parent) in message, (number, name, message)
                assert message.isprintable() and len(message) < 9000, (number, name, message)
                counts["refused"] += 1
            except Exception as error:
                raise AssertionError(f"mutation {number} ({name}) of {kind}: {error!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(f"{kind}: {dict(counts)}, {grown / 1e6:.0f} MB")
    assert counts["refused"] and sum(counts.values()) == EACH and grown < MEMORY
