#!/usr/bin/env bash
# Runs the real binaries for about a minute: the demo with a few steps of each stage, kill -9, resume, sampling.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly bin=build/release/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { printf 'smoke: error: %s\n' "$*" >&2; exit 1; }

readonly options=(--set data.shapes.samples=500 --set data.shapes.validation_samples=20
  --set dvae.train.steps=30 --set dvae.train.warmup_steps=5 --set dvae.train.save_every=5
  --set dvae.train.eval_every=15 --set dvae.train.eval_samples=16
  --set dalle.train.steps=16 --set dalle.train.warmup_steps=5 --set dalle.train.save_every=4
  --set dalle.train.eval_every=8 --set dalle.train.eval_samples=16 --set dalle.train.sample_every=16)
readonly train=("$bin/dalle-train" --config configs/shapes-demo.yaml --device cpu "${options[@]}" --run-dir)
weights() { sha256sum "$1"/checkpoints/*/step-*/{weights,ema,first_moment,second_moment}.safetensors | cut -d' ' -f1; }
metrics() { python3 -c 'import json, sys
for line in open(sys.argv[1]): print({k: v for k, v in json.loads(line).items() if k != "time"})' "$1/metrics.jsonl"; }

DALLE_DEMO_RANKS=1 DALLE_DEMO_RUN=$work/uninterrupted scripts/demo.sh "${options[@]}" >"$work/demo.log" 2>&1 || { cat "$work/demo.log"; die "the demo failed"; }
for line in '^dVAE  *[0-9.]* dB' '^DALL-E  *[0-9.]* nats' '^Captions  *[0-9]* %'; do
  grep -q "$line" "$work/demo.log" || { tail -20 "$work/demo.log"; die "the demo did not print $line"; }
done

"${train[@]}" "$work/resumed" 2>"$work/resumed.log" &
victim=$!
for _ in $(seq 300); do  # until the first checkpoint of the second stage or the end of the run
  compgen -G "$work/resumed/checkpoints/dalle/step-*" >/dev/null && break
  kill -0 $victim 2>/dev/null || break
  sleep 0.1
done
kill -9 $victim 2>/dev/null || die "the run ended before it could be killed"
wait $victim 2>/dev/null || true
"${train[@]}" "$work/resumed" 2>>"$work/resumed.log" || { cat "$work/resumed.log"; die "resuming failed"; }

diff <(weights "$work/uninterrupted") <(weights "$work/resumed") || die "the weights of the resumed run differ from the uninterrupted run's"
diff <(metrics "$work/uninterrupted") <(metrics "$work/resumed") || die "the metrics of the resumed run differ from the uninterrupted run's"

cp -r "$work/resumed/checkpoints/dalle/"step-* "$work/"
rm -rf "$work/resumed"
"$bin/dalle-sample" --model "$(ls -d "$work"/step-* | tail -1)" --count 2 --out "$work/images" "a red circle" "a blue star" ||
  die "sampling failed"
[ "$(ls "$work"/images/*.png | wc -l)" -eq 4 ] || die "expected 4 images"

set +e
"$bin/dalle-train" --config configs/shapes-demo.yaml --set dvae.train.stepz=1 2>"$work/error"; status=$?
set -e
[ $status -eq 1 ] && grep -q 'steps' "$work/error" || die "a misspelled key was not rejected with status 1 and a suggestion"
printf 'smoke: ok\n'
