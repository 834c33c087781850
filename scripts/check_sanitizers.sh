#!/usr/bin/env bash
# Builds the modules that parse untrusted files (core, tensor and data) with AddressSanitizer and UndefinedBehaviorSanitizer
# in build/asan-files, and runs their tests. TORCH_ROOT= selects a LibTorch other than the one under third_party/.
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cmake --preset asan-files -DTORCH_ROOT="${TORCH_ROOT:-}" >"$log" 2>&1 || {
  cat "$log" >&2; printf 'sanitizers: error: configuration failed\n' >&2; exit 1
}
cmake --build --preset asan-files --parallel "${DALLE_BUILD_JOBS:-$(nproc)}" --target core_test tensor_test data_test
ctest --preset asan-files --parallel 2 -R '^(core|tensor|data)$'
printf 'sanitizers: ok\n'
