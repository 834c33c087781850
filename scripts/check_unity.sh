#!/usr/bin/env bash
# Fails if two of the library's sources keep different things of one name to themselves. The release build joins sources,
# and which ones it joins changes with every file that is added: the error would come up far from its cause.
# Needs scripts/build.sh to have run.
set -euo pipefail
cd "$(dirname "$0")/.."

all=$(mktemp --suffix=.cpp)
trap 'rm -f "$all"' EXIT
git ls-files 'src/*/*.cpp' | grep -v '^src/core/' | sed "s|.*|#include \"$PWD/&\"|" >"$all"
flags=$(ninja -C build/release -t commands libdalle.a | sed -n 's/[^ ]* *[^ ]* \(-D.*\) -MD -MT CMakeFiles.dalle.dir.Unity.*/\1/p' | tail -n 1)
[ -n "$flags" ] || { printf 'unity: error: found no command that compiles the library\n' >&2; exit 1; }
# shellcheck disable=SC2086  # they are many
c++ $flags -w -fsyntax-only "$all" || { printf 'unity: error: two sources clash when they are joined\n' >&2; exit 1; }
printf 'unity: ok\n'
