#!/usr/bin/env bash
# Builds the libFuzzer targets of tests/fuzz in build/fuzz with clang and runs them, one after the other. What is found is
# in build/fuzz/findings: pass such a file to build/fuzz/bin/fuzz_TARGET to see it again. The corpora in build/fuzz/corpus
# grow from run to run.
#
#   scripts/fuzz.sh                     every target, a million inputs each
#   scripts/fuzz.sh json                one target
#   scripts/fuzz.sh all 50000           every target, fewer inputs
#   scripts/fuzz.sh all 10s             every target for ten seconds
#   scripts/fuzz.sh quick 3s            every target but the tokenizer, whose library takes minutes to build
set -euo pipefail
cd "$(dirname "$0")/.."

readonly build=build/fuzz
case ${2:-1000000} in
  *s) limit=-max_total_time=${2%s} ;;
  *) limit=-runs=${2:-1000000} ;;
esac
readonly quick=(yaml tar safetensors torch_file image png_text json multipart request_fields request_target)
case ${1:-all} in
  all) targets=("${quick[@]}" tokenizer) ;;
  quick) targets=("${quick[@]}") ;;
  *) targets=("$1") ;;
esac
[ -f "tests/fuzz/${targets[0]}_fuzz.cpp" ] || {
  printf 'fuzz: error: %s: no such target; the targets are %s\n' "$1" "${quick[*]} tokenizer" >&2; exit 1
}
command -v clang++ >/dev/null || { printf 'fuzz: error: clang++ not found; run scripts/setup.sh --checks\n' >&2; exit 1; }

cmake --preset fuzz -DTORCH_ROOT="${TORCH_ROOT:-}" >/dev/null
cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"
python3 tests/fuzz/make_seeds.py $build/seeds

failed=()
for target in "${targets[@]}"; do
  mkdir -p $build/corpus/"$target" $build/findings
  $build/bin/fuzz_"$target" "$limit" -max_len=8192 -timeout=10 -print_final_stats=1 \
    -artifact_prefix=$build/findings/"$target"- $build/corpus/"$target" $build/seeds/"$target" || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || { printf 'fuzz: error: found something in %s\n' "${failed[*]}" >&2; exit 1; }
printf 'fuzz: ok\n'
