#!/usr/bin/env bash
# Configures and builds build/release, with progress. Needs scripts/setup.sh to have run.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset release ${TORCH_ROOT:+-DTORCH_ROOT="$TORCH_ROOT"} >build-configure.log 2>&1 || {
  cat build-configure.log; rm -f build-configure.log; printf 'build: error: could not configure\n' >&2; exit 1; }
rm -f build-configure.log
cmake --build --preset release --parallel "${DALLE_BUILD_JOBS:-$(nproc)}"
