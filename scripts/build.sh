#!/usr/bin/env bash
# Configures and builds build/release, with progress: everything, or the targets that are named.
# Needs scripts/setup.sh to have run. TORCH_ROOT= takes another LibTorch than the one under third_party/.
#
#   scripts/build.sh                            the library, the tools and the tests
#   scripts/build.sh dalle-train dalle-sample   these only
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Named each time, empty for third_party's: else the build would keep the LibTorch of the configure before.
cmake --preset release -DTORCH_ROOT="${TORCH_ROOT:-}" >"$log" 2>&1 || {
  cat "$log" >&2; printf 'build: error: could not configure\n' >&2; exit 1
}
grep LibTorch "$log" || true
cmake --build --preset release --parallel "${DALLE_BUILD_JOBS:-$(nproc)}" ${1:+--target "$@"}
