#!/usr/bin/env bash
# Fails and prints each place where a source file differs from clang-format's output.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files '*.h' '*.cpp' | xargs clang-format --dry-run --Werror
printf 'format: ok\n'
