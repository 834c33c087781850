#!/usr/bin/env bash
# Configures and builds build/release: everything, or only the given targets. Run scripts/setup.sh first.
# TORCH_ROOT= selects a LibTorch other than the one under third_party/.
#
#   scripts/build.sh                            the library, the tools and the tests
#   scripts/build.sh dalle-train dalle-sample   only these
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Always set (empty selects third_party's), because otherwise CMake would keep the LibTorch of the last configure.
cmake --preset release -DTORCH_ROOT="${TORCH_ROOT:-}" >"$log" 2>&1 || {
  cat "$log" >&2; printf 'build: error: configuration failed\n' >&2; exit 1
}
grep LibTorch "$log" || true
cmake --build --preset release --parallel "${DALLE_BUILD_JOBS:-$(nproc)}" ${1:+--target "$@"}
