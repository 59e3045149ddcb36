"""The compiled training step: what accelerators run, inspected without one."""

import re

import pytest

from tests.hlo import all_reduces, operations

pytestmark = pytest.mark.slow  # the processes of test_step.py
# Channels last, as a GPU's tensor cores read them; in weight gradients batch and channels change
# places.
LAYOUT = (
    r"\[(b|f), 0, 1, (f|b)\]x\[(0, 1, i, o|0, 1, o, i|i, 0, 1, o)\]->\[(b, 0, 1, f|0, 1, b, f)\]"
)
BATCH_NORMS = {"classifier": 20, "segmenter": 8}
STAGES = ("classifier", "segmenter")
DTYPES = ("float32", "bfloat16")
CUDA = pytest.mark.parametrize(
    ("stage", "dtype"), [(stage, dtype) for stage in STAGES for dtype in DTYPES]
)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_one_program_that_never_waits_for_the_host(on_devices, stage, count):
    program = str(on_devices[count][f"{stage} program"])
    assert program.count("\nENTRY ") == 1
    for word in ("infeed", "outfeed", "send(", "recv(", "callback"):
        assert word not in program


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("stage", STAGES)
def test_every_leaf_of_the_state_is_updated_in_place(on_devices, stage, count):
    header = str(on_devices[count][f"{stage} program"]).splitlines()[0]
    aliases = re.findall(r"\{\d+\}: \((\d+), \{\}, (?:may|must)-alias\)", header)
    assert len(set(aliases)) == int(on_devices[count][f"{stage} leaves"])


@pytest.mark.parametrize("stage", STAGES)
def test_devices_exchange_gradients_and_statistics_only_and_in_buckets(on_devices, stage):
    summed = all_reduces(str(on_devices[4][f"{stage} program"]))
    weights = int(on_devices[4][f"{stage} weights"])
    program = str(on_devices[4][f"{stage} program"])
    for other in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
        assert other not in program
    # the rest: mean and variance of BatchNorm and their gradients
    assert weights <= sum(summed) <= weights + 20_000
    alone = all_reduces(str(on_devices[1][f"{stage} program"]))
    assert max(alone, default=0) < 100  # one device copies neither gradients nor statistics
    assert len(summed) <= 2 * BATCH_NORMS[stage] + 2 < int(on_devices[4][f"{stage} leaves"])


@CUDA
def test_no_image_is_transposed_on_a_gpu(on_devices, stage, dtype):
    program = str(on_devices[1][f"{stage} cuda {dtype}"])
    for line in operations(program, "transpose"):
        shape = [int(n) for n in re.search(r": \(tensor<([\dx]+)x", line)[1].split("x")]
        kernel = len(shape) == 2 or (len(shape) == 4 and shape[0] == shape[1] <= 7)
        # or the slice on its way through the enhancement, of one channel
        assert kernel or 1 in shape, line
    for line in operations(program, "convolution"):
        assert re.search(LAYOUT, line), line


@CUDA
def test_convolutions_on_a_gpu_are_its_own_and_of_the_asked_type(on_devices, stage, dtype):
    program = str(on_devices[1][f"{stage} cuda {dtype}"])
    convolutions = operations(program, "convolution")
    short = {"float32": "f32", "bfloat16": "bf16"}[dtype]
    types = [re.findall(r"tensor<[\dx]+x(\w+)>", line.split(" : ")[-1]) for line in convolutions]
    layers = {"classifier": 20, "segmenter": 12}[stage]
    computing = [kinds for kinds in types if kinds == [short] * 3]
    # the enhancement: one along the width, two along the height
    wavelets = 3 if stage == "classifier" else 0
    # forward, both gradients; no gradient of the input slices
    assert len(types) == 3 * layers - 1 + wavelets
    assert len(computing) >= 3 * layers - 1
    assert not operations(program, "while") and not operations(program, "custom_call")
