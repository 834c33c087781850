#!/usr/bin/env bash
# Runs tests with sanitizers. TORCH_ROOT= selects a LibTorch other than the one under third_party/.
#
#   scripts/check_sanitizers.sh          both of these
#   scripts/check_sanitizers.sh files    AddressSanitizer and UndefinedBehaviorSanitizer, in build/asan-files: the modules
#                                        that parse untrusted files (core, tensor and data)
#   scripts/check_sanitizers.sh threads  ThreadSanitizer, in build/tsan-threads: the loader, the checkpoint writer, the
#                                        heartbeat, the log and everything else that several threads of a rank use
set -euo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# build PRESET TARGETS...
build() {
  cmake --preset "$1" -DTORCH_ROOT="${TORCH_ROOT:-}" >"$log" 2>&1 || {
    cat "$log" >&2; printf 'sanitizers: error: configuration failed\n' >&2; exit 1
  }
  cmake --build --preset "$1" --parallel "${DALLE_BUILD_JOBS:-$(nproc)}" --target "${@:2}"
}

case ${1:-all} in all | files | threads) ;; *) printf 'sanitizers: error: %s: expected files or threads\n' "$1" >&2; exit 1 ;; esac
if [ "${1:-all}" != threads ]; then
  build asan-files core_test tensor_test data_test
  ctest --preset asan-files --parallel 2 -R '^(core|tensor|data)$'
fi
if [ "${1:-all}" != files ]; then
  build tsan-threads core_test data_test dist_test checkpoint_test
  ctest --preset tsan-threads --parallel 2 -R '^(core|dist|checkpoint)$'
  # Of the tests of data, those with threads: the others take minutes here.
  GTEST_FILTER='BatchLoader*:CodeCache*:ShardDataset*:Skipped*:*Tokenizer*' ctest --preset tsan-threads -R '^data$'
fi
printf 'sanitizers: ok\n'
