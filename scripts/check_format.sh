#!/usr/bin/env bash
# Fails, naming the places, if a source file is not as clang-format would write it.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run --Werror
printf 'format: ok\n'
