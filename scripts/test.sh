#!/usr/bin/env bash
# Installs dependencies, builds, runs every test, and ends with CTest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/build.sh

# Independent readers of our file formats and a client of our server, used only by tests and therefore in a separate folder.
readonly packages=build/test-packages
readonly wanted=(safetensors==0.8.0 tensorboard==2.21.0 openai==3.57.0 'numpy<2.4' typing_extensions)
if [ "$(cat $packages/.complete 2>/dev/null)" != "${wanted[*]}" ]; then
  printf 'test: installing the PyPI packages safetensors, tensorboard and openai into %s\n' "$packages"
  rm -rf $packages
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --target $packages "${wanted[@]}" || {
    printf 'test: error: could not install the PyPI packages that the tests need\n' >&2; exit 1; }
  printf '%s\n' "${wanted[*]}" >$packages/.complete
fi
# LibTorch's folder is also Python's torch where setup.sh has unpacked that half of the wheel, or in TORCH_ROOT=.../torch of pip.
torch=${TORCH_ROOT:-$PWD/third_party/libtorch/torch}
export PYTHONPATH=$PWD/$packages${PYTHONPATH:+:$PYTHONPATH}
[ ! -f "$torch/__init__.py" ] || PYTHONPATH=$PYTHONPATH:${torch%/*}
export DALLE_TEST_PYTHON=python3

ctest --preset release --parallel 2
