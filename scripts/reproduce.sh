#!/usr/bin/env bash
# Repeats an experiment of docs/results.md: trains, evaluates, and says whether its numbers are in the published ranges.
#
#   scripts/reproduce.sh                     lists the experiments
#   scripts/reproduce.sh NAME [OPTION ...]   options of dalle-train, e.g. --device cuda, or --set seed=9 for another seed
#
# Needs the tools (scripts/setup.sh && scripts/build.sh). The run goes to runs/reproduce-NAME; DALLE_REPRODUCE_RUN names another
# folder. If it is interrupted, the same command resumes. Exits with 0 if all numbers are reproduced, and 2 if not.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly results=docs/results.md bin=build/release/bin
die() { printf 'reproduce: error: %s\n' "$*" >&2; exit 1; }

# rows SECTION: the rows of the table under a heading, without its header, one per line, cells separated by tabs.
rows() {
  awk -v heading="## $1" '
    /^## / {inside = $0 == heading}
    inside && /^\| `/ {gsub(/^\| *| *\|$|`/, ""); gsub(/ *\| */, "\t"); print}' "$results"
}

name=${1:-}
if [ -z "$name" ] || [ "$name" = --help ]; then
  sed -n 's/^# \{0,1\}//p' "$0" | sed '1d;/^$/q'
  printf '\nExperiments:\n'
  rows Experiments | cut -f 1,2 | sed 's/^/  /' | expand -t 20
  exit 0
fi
shift
IFS=$'\t' read -r _ training evaluation < <(rows Experiments | awk -F'\t' -v name="$name" '$1 == name') ||
  die "$results has no experiment \"$name\"; it has: $(rows Experiments | cut -f 1 | paste -sd ' ')"
for tool in dalle-train dalle-eval; do
  [ -x $bin/$tool ] || die "$bin/$tool does not exist; run scripts/setup.sh && scripts/build.sh"
done

readonly run=${DALLE_REPRODUCE_RUN:-runs/reproduce-$name}
read -ra training <<<"$training"
read -ra evaluation <<<"$evaluation"
$bin/dalle-train "${training[@]}" --run-dir "$run" "$@"
$bin/dalle-eval --model "$run" "${evaluation[@]}"

rows Numbers | awk -F'\t' -v name="$name" '$1 == name' | python3 -c '
import json, sys
suites = json.load(open(sys.argv[1]))["suites"]
missed = 0
for row in sys.stdin:
    _, number, published, lowest, highest = row.rstrip("\n").split("\t")[:5]
    suite, key = number.split(".")
    measured = suites[suite][key]
    low, high = measured.get("low", measured["value"]), measured.get("high", measured["value"])
    reproduced = low <= float(highest) and high >= float(lowest)
    missed += not reproduced
    print("%-24s %s here (%s to %s), published %s (%s to %s): %s" % (number, *("%.4g" % x for x in (measured["value"], low, high)),
          published, lowest, highest, "reproduced" if reproduced else "NOT REPRODUCED"))
sys.exit(2 if missed else 0)' "$run/evaluation.json"
