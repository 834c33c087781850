#!/usr/bin/env bash
# Checks a machine with a GPU: compares its results with the CPU's and runs real training on it, which is also killed and
# resumed. Prints a table, writes gpu_check.json to the current folder, and exits with status 1 if anything failed.
#
#   scripts/gpu_check.sh                the binaries in build/release/bin or, in an unpacked bundle, in bin
#   scripts/gpu_check.sh FOLDER         other binaries
#   DEVICE=cpu scripts/gpu_check.sh     the same on the CPU, to test this script
set -euo pipefail

die() { printf 'gpu_check: error: %s\n' "$*" >&2; exit 1; }

root=$(cd "$(dirname "$0")/.." && pwd)
bin=$root/build/release/bin
[ -d "$root/libexec" ] && bin=$root/bin  # a bundle of scripts/bundle.sh
bin=${1:-$bin}
readonly root bin place=${DEVICE:-cuda} config=$root/tests/tools/tiny.yaml
case $place in
  cuda)
    command -v nvidia-smi >/dev/null ||
      die "found no nvidia-smi, so there is no NVIDIA driver (DEVICE=cpu tests the script on the CPU)"
    gpus=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader) || die "nvidia-smi: $gpus"
    [ -n "$gpus" ] || die "nvidia-smi finds no GPU"
    visible=${CUDA_VISIBLE_DEVICES:+${CUDA_VISIBLE_DEVICES//,/$'\n'}}
    ranks=$(wc -l <<<"${visible:-$gpus}") ;;
  cpu) gpus='' ranks=2 ;;
  *) die "DEVICE=$place: expected cuda or cpu" ;;
esac
for tool in dalle-check dalle-train dalle-sample; do
  [ -x "$bin/$tool" ] || die "$bin/$tool: not found; build it, or pass the folder of the binaries"
  "$bin/$tool" --help >/dev/null || die "$bin/$tool does not start"
done
command -v python3 >/dev/null || die "found no python3, which is needed to compare runs"
[ -w . ] || die "$PWD: cannot write gpu_check.json here"

work=$(mktemp -d)
victim=
trap '[ -z "$victim" ] || kill -9 $victim 2>/dev/null; rm -rf "$work"' EXIT

# Eight micro-batches, so that up to eight ranks have one each and exact training adds them in a fixed order.
readonly batch=(--set dvae.train.batch_size=8 --set dvae.train.micro_batch_size=1
  --set dalle.train.batch_size=8 --set dalle.train.micro_batch_size=1)
readonly exact=("${batch[@]}" --set distributed.bitwise=true)
ranks=$((ranks < 8 ? ranks : 8)) exact_ranks=1
while ((2 * exact_ranks <= ranks)); do exact_ranks=$((2 * exact_ranks)); done

cat >"$work/compare.py" <<'PY'
"""bits RUN RUN | close RUN RUN | images FOLDER FOLDER: compares and prints the result; status 1 if they differ."""
import hashlib
import json
import pathlib
import struct
import sys
import zlib

TOLERANCE = 0.02  # of max(1, value): TF32 convolutions have ten bits of mantissa, and training amplifies the differences
CODES_TOLERANCE = 0.13  # of codes_used, which changes in steps of 1/16
MIN_AGREEMENT = 0.98


def state(run):
    """Hashes of the weights, EMA and moments of the newest checkpoint of each stage."""
    hashes = {}
    for stage in ("dvae", "dalle"):
        newest = sorted((run / "checkpoints" / stage).glob("step-*"))[-1]
        for path in sorted(newest.glob("*.safetensors")):
            hashes[stage, newest.name, path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return hashes


def metrics(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("time", None)
    return lines


def bits(run, expected):
    found, wanted = state(run), state(expected)
    differing = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
    lines, wanted_lines = metrics(run), metrics(expected)
    if differing:
        return False, f"{len(differing)} files differ or are missing, the first is {'/'.join(differing[0])}"
    if lines != wanted_lines:
        return False, f"the weights are equal, but the metrics differ ({len(lines)} lines, expected {len(wanted_lines)})"
    return True, f"equal bits in {len(found)} files of weights and moments and in {len(lines)} lines of metrics"


def close(run, expected):
    lines, wanted_lines = metrics(run), metrics(expected)
    if [line.keys() for line in lines] != [line.keys() for line in wanted_lines]:
        return False, f"different metrics: {len(lines)} lines, expected {len(wanted_lines)}"
    worst, where = 0, "no difference"
    for line, wanted in zip(lines, wanted_lines):
        for key, value in line.items():
            if not isinstance(value, float):
                continue
            tolerance = CODES_TOLERANCE if key == "codes_used" else TOLERANCE * max(1, abs(wanted[key]))
            error = abs(value - wanted[key]) / tolerance
            if not error <= worst:  # also true for NaN
                worst = error
                where = f"{key} {value:.5f}, expected {wanted[key]:.5f}, at {line['stage']} step {line['step']}"
    return worst <= 1, f"{len(lines)} lines of metrics, at most {worst:.1%} of the tolerance: {where}"


def pixels(path):
    """The bytes of an 8-bit PNG, row by row."""
    content, position, header, packed = path.read_bytes(), 8, b"", b""
    while position < len(content):
        size, kind = struct.unpack_from(">I4s", content, position)
        chunk = content[position + 8:position + 8 + size]
        header, packed = (chunk if kind == b"IHDR" else header), packed + (chunk if kind == b"IDAT" else b"")
        position += 12 + size
    width, height, depth, color = struct.unpack_from(">IIBB", header)
    assert depth == 8, path
    step = {0: 1, 2: 3, 6: 4}[color]
    raw, row, result = zlib.decompress(packed), bytearray(width * step), bytearray()
    for y in range(height):
        kind, *line = raw[y * (width * step + 1):(y + 1) * (width * step + 1)]
        above, row = row, bytearray(line)
        for x in range(len(row)):
            left, up, corner = (row[x - step], above[x], above[x - step]) if x >= step else (0, above[x], 0)
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            row[x] = (row[x] + (0, left, up, (left + up) // 2, paeth)[kind]) & 255
        result += row
    return bytes(result)


def images(folder, expected):
    names = sorted(path.name for path in expected.glob("*.png"))
    if not names or names != sorted(path.name for path in folder.glob("*.png")):
        return False, "different files"
    pairs = [pair for name in names for pair in zip(pixels(folder / name), pixels(expected / name), strict=True)]
    share = sum(abs(a - b) <= 2 for a, b in pairs) / len(pairs)
    return share >= MIN_AGREEMENT, f"{share:.2%} of the values of {len(names)} images agree ({MIN_AGREEMENT:.0%})"


holds, found = globals()[sys.argv[1]](pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]))
print(found)
sys.exit(not holds)
PY
compare() { python3 "$work/compare.py" "$@"; }

# note NAME RESULT MILLISECONDS FOUND: adds a line to the table, in dalle-check's format, and to the JSON.
note() {
  printf '%-36s%-10s%9s  %s\n' "$@"
  python3 -c 'import json, sys
name, result, ms, found = sys.argv[1:]
print(json.dumps({"name": name, "result": result, "ms": int(ms), "found": found}))' "$@" >>"$work/results"
}

# check NAME COMMAND...: notes the result of the command, its duration and its last line of output.
failed=0
check() {
  local name=$1 result=pass begin=${EPOCHREALTIME/[.,]/}
  shift
  "$@" >"$work/output" 2>&1 || result=FAIL failed=1
  note "$name" $result $(((${EPOCHREALTIME/[.,]/} - begin) / 1000)) "$(tail -n 1 "$work/output")"
}

# train DEVICE FOLDER OPTIONS...
train() {
  local device=$1 folder=$2
  shift 2
  "$bin/dalle-train" --config "$config" --run-dir "$folder" --device "$device" "$@" >>"$folder.log" 2>&1 || {
    tail -n 1 "$folder.log"
    return 1
  }
}
plain() { train "$place" "$work/plain" "${batch[@]}" && grep '| loss' "$work/plain.log" | tail -n 1; }
close_to() { train "$place" "${@:2}" && compare close "$2" "$1"; }
same_bits() { train "$place" "$@" "${exact[@]}" && compare bits "$1" "$work/exact"; }
on_the_cpu() { train cpu "$work/cpu" "${exact[@]}" && compare close "$work/exact" "$work/cpu"; }

killed() {
  "$bin/dalle-train" --config "$config" --run-dir "$work/killed" --device "$place" "${exact[@]}" 2>"$work/killed.log" &
  victim=$!
  until compgen -G "$work/killed/checkpoints/dalle/step-*" >/dev/null || ! kill -0 $victim 2>/dev/null; do
    sleep 0.02
  done
  local in_time=yes
  kill -9 $victim 2>/dev/null || in_time=no
  wait $victim 2>/dev/null || true
  victim=
  [ $in_time = yes ] || { echo "the run ended before it could be killed"; return 1; }
  same_bits "$work/killed"
}

sample() { "$bin/dalle-sample" --model "$work/exact" --device "$1" --out "$2" --count 12 --seed 5 "a red circle"; }
images() {
  sample "$place" "$work/images" && sample cpu "$work/cpu-images" &&
    compare images "$work/images" "$work/cpu-images"
}

begin=${EPOCHREALTIME/[.,]/} result=pass status=0
"$bin/dalle-check" --device "$place" --configs "$root/configs" --json "$work/check.json" || status=$?
[ $status -eq 0 ] || result=FAIL failed=1
note "dalle-check" $result $(((${EPOCHREALTIME/[.,]/} - begin) / 1000)) "status $status"

check "training" plain
check "training exact" close_to "$work/plain" "$work/exact" "${exact[@]}"
check "training exact, --ranks 1" same_bits "$work/one-rank" --ranks 1
check "training exact, killed and resumed" killed
check "training exact, on the CPU" on_the_cpu
if ((ranks > 1)); then
  check "training --ranks $ranks" close_to "$work/plain" "$work/ranks" "${batch[@]}" --ranks $ranks
  check "training exact, --ranks $exact_ranks" same_bits "$work/exact-ranks" --ranks $exact_ranks
  check "training sharded, --ranks $exact_ranks" same_bits "$work/sharded" --ranks $exact_ranks \
    --set distributed.shard_optimizer=true
else
  note "training on several ranks" skipped 0 "found only one GPU"
fi
check "images, on the CPU" images

python3 - "$work" $failed "$place" "$gpus" >gpu_check.json <<'PY'
import json
import pathlib
import sys

work, failed, device, gpus = pathlib.Path(sys.argv[1]), sys.argv[2] == "1", sys.argv[3], sys.argv[4]
check = work / "check.json"
print(json.dumps({
    "passed": not failed,
    "device": device,
    "gpus": [dict(zip(("name", "driver", "memory"), line.split(", "))) for line in gpus.splitlines()],
    "checks": [json.loads(line) for line in (work / "results").read_text().splitlines()],
    "dalle_check": json.loads(check.read_text()) if check.is_file() else None,
}, indent=2))
PY
((failed == 0)) || die "some checks failed; see the lines with FAIL and gpu_check.json"
printf 'gpu_check: ok\n'
