#!/usr/bin/env bash
# Fails if two sources of the library define different internal things with the same name. The release build is a unity
# build whose grouping changes with every file that is added, so such an error would appear far from its cause.
# Run scripts/build.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."

all=$(mktemp --suffix=.cpp)
trap 'rm -f "$all"' EXIT
git ls-files 'src/*/*.cpp' | grep -v -e '^src/core/' -e '^src/nn/gpu/cuda_' -e gpu_kernels_none | sed "s|.*|#include \"$PWD/&\"|" >"$all"
flags=$(ninja -C build/release -t commands libdalle.a | sed -n 's/[^ ]* *[^ ]* \(-D.*\) -MD -MT CMakeFiles.dalle.dir.Unity.*/\1/p' | tail -n 1)
[ -n "$flags" ] || { printf 'unity: error: found no compile command of the library\n' >&2; exit 1; }
# shellcheck disable=SC2086  # several words
c++ $flags -w -fsyntax-only "$all" || { printf 'unity: error: sources clash in a unity build\n' >&2; exit 1; }
printf 'unity: ok\n'
