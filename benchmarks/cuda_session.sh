#!/usr/bin/env bash
# Ten minutes on a machine with a GPU and no network: the tests marked `cuda`, then benchmarks/cuda.py.
#
# Before, where there is a network, put the wheels it lacks into .whl (ignored; 64 MiB):
#   pip download --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
#     --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
#     --platform manylinux2014_x86_64 -d .whl astra-toolbox nvidia-cuda-runtime-cu12 numba llvmlite pytest pluggy iniconfig pydicom
# Then: bash benchmarks/cuda_session.sh
set -euo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-/tmp/cuda_session}
SITE=$(mktemp -d)
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1
if [ -d .whl ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" .whl/*.whl
  export PYTHONPATH="$SITE:$PWD"
  # ASTRA links libcufft for its own FBP, which nobody here calls: five empty functions let it load
  printf 'int cufftPlan1d(){return 5;} int cufftExecR2C(){return 5;} int cufftExecC2R(){return 5;} int cufftDestroy(){return 5;} int cufftSetStream(){return 5;}' >"$SITE/stub.c"
  printf 'libcufft.so.11 { cufft*; };' >"$SITE/stub.map"
  gcc -shared -fPIC -Wl,-soname,libcufft.so.11 -Wl,--version-script="$SITE/stub.map" -o "$SITE/libcufft.so.11" "$SITE/stub.c"
  export LD_LIBRARY_PATH="$SITE:$(find "$SITE" -name 'libcudart.so.12*' -printf '%h\n' -quit):${LD_LIBRARY_PATH:-}"
fi
python3 -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())'
python3 -m pytest -q -m cuda -p no:cacheprovider tests 2>&1 | tee "$OUT/pytest.log" || true
timeout 400 python3 benchmarks/cuda.py 2>&1 | tee "$OUT/cuda.log"
cp benchmarks/results/cuda.* "$OUT/"
