#!/usr/bin/env bash
# Installs dependencies, builds, runs every test, and ends with CTest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/build.sh

# Independent readers of our file formats, used only by tests and therefore in a separate folder.
readonly packages=build/test-packages
if [ ! -f $packages/.complete ]; then
  printf 'test: installing the PyPI packages safetensors and tensorboard into %s\n' "$packages"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --target $packages \
    safetensors==0.8.0 tensorboard==2.21.0 numpy || {
    printf 'test: error: could not install the PyPI packages that the tests need\n' >&2; exit 1; }
  touch $packages/.complete
fi
export PYTHONPATH=$PWD/$packages${PYTHONPATH:+:$PYTHONPATH}
export DALLE_TEST_PYTHON=python3

ctest --preset release --parallel 2
