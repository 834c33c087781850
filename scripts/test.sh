#!/usr/bin/env bash
# Sets everything up, builds, runs every test and ends with the runner's summary.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/build.sh

# Independent readers of the formats we write: only tests use them, from an environment of their own.
readonly venv=build/test-venv
if [ ! -f $venv/.complete ]; then
  printf 'test: installing the PyPI packages safetensors and tensorboard into %s\n' "$venv"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-script-location --target $venv \
    safetensors==0.7.0 numpy==2.2.6 tensorboard==2.20.0 || {
    printf 'test: error: could not install the PyPI packages that the tests read our files with\n' >&2; exit 1; }
  touch $venv/.complete
fi
export PYTHONPATH=$PWD/$venv${PYTHONPATH:+:$PYTHONPATH}
export DALLE_TEST_PYTHON=python3

ctest --preset release --parallel 2
