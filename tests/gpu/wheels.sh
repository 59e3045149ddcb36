#!/usr/bin/env bash
# Fills the ignored folder .whl/ with what covjax needs beyond a GPU machine that has jax, PyTorch,
# SciPy, scikit-learn, matplotlib and pillow, for Python 3.12 on x86-64. On that machine:
#   python3 -m pip install -q --no-index --no-deps --target /tmp/site .whl/*.whl
#   PYTHONPATH=/tmp/site:$PWD python3 -m tests.gpu
set -euo pipefail
cd "$(dirname "$0")/../.."
rm -rf .whl && mkdir .whl
tags=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)
for glibc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do tags+=(--platform "manylinux_${glibc}_x86_64"); done
get() {
  python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp "${tags[@]}" -d .whl "$@"
}
get absl-py array-record chex dm-tree docstring-parser etils flax googleapis-common-protos grain immutabledict \
  importlib_resources jinja2 markupsafe ml-collections nibabel optax orbax-checkpoint portpicker pydicom pywavelets \
  simple-parsing tensorboardX tensorflow-datasets tensorflow-metadata termcolor toml tqdm
python3 -m pip wheel -q --no-deps -w .whl promise==2.3
du -sh .whl
