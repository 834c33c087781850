#!/usr/bin/env bash
# From clone to images: installs everything, builds, trains configs/shapes-demo.yaml on the CPU, and generates 4 images for
# each of 8 captions.
#
#   scripts/demo.sh                     on the CPU, like the numbers in the README
#   DALLE_DEVICE=cuda scripts/demo.sh   on another device; see --device
#   scripts/demo.sh --set seed=2        options of dalle-train
#   DALLE_DEMO_RUN=runs/x scripts/demo.sh   in another folder
#   DALLE_DEMO_RANKS=1 scripts/demo.sh      with one process; default: two on a CPU
#
# You can interrupt it at any time: started again, it skips finished parts and resumes training.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly run=${DALLE_DEMO_RUN:-runs/shapes-demo} device=${DALLE_DEVICE:-cpu}
readonly captions=(
  "a red circle" "a blue square" "a green triangle" "a yellow diamond"
  "a purple ring" "a cyan circle" "a blue diamond" "a green square")

# Next to other programs, two processes are far faster than two threads: see "Other programs" in docs/training.md.
[ "$device" = cpu ] && [ "$(nproc)" -gt 1 ] && default_ranks=2 || default_ranks=1
readonly ranks=${DALLE_DEMO_RANKS:-$default_ranks}

say() { printf '\n== %s\n' "$*"; }
began=$SECONDS

say "1/4 packages and LibTorch"
scripts/setup.sh
say "2/4 build"
scripts/build.sh dalle-train dalle-sample dalle-eval
say "3/4 training on $device: tokenizer, dVAE, DALL-E ($run)"
build/release/bin/dalle-train --config configs/shapes-demo.yaml --device "$device" --ranks "$ranks" --run-dir "$run" "$@"
say "4/4 images"
build/release/bin/dalle-sample --model "$run" --device "$device" --count 4 --seed 1 --grid "$run/samples.png" \
  --out "$run/images" "${captions[@]}"
build/release/bin/dalle-eval --model "$run" --device "$device" --suite shapes --limit 400

# numbers STAGE KEY: prints the values of a metric at all evaluations of a stage, one per line.
numbers() { sed -n "s|^{\"stage\":\"$1\",.*\"$2\":\([-0-9.e]*\).*|\1|p" "$run/metrics.jsonl"; }
# verdict VALUE MIN MAX: prints whether the value is in the typical range.
verdict() { awk -v x="$1" -v min="$2" -v max="$3" 'BEGIN {print (x < min || x > max) ? "unusual" : "normal"}'; }
psnr=$(numbers dvae psnr_hard | sort -g | tail -n 1)
nats=$(numbers dalle validation/image | tail -n 1)
exact=$(python3 -c 'import json, sys; print(100 * json.load(open(sys.argv[1]))["suites"]["shapes"]["exact"]["value"])' \
  "$run/evaluation.json")

say "done in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
cat <<EOF
Images    $run/samples.png: one row of 4 images for each of: ${captions[*]@Q}
Report    $run/report.html: curves, numbers and images, for a browser
dVAE      $(printf '%.1f' "$psnr") dB PSNR of validation images decoded from their codes; typically 36 to 44, so this is $(verdict "$psnr" 35.95 44.05)
DALL-E    $(printf '%.3f' "$nats") nats per code on validation images; typically up to 0.03, so this is $(verdict "$nats" 0 0.0305)
Captions  $(printf '%.0f' "$exact") % of 400 more images show exactly what their caption says; typically 86 to 99, so this is $(verdict "$exact" 85.5 100)

Try       build/release/bin/dalle-sample "a small purple circle"
          build/release/bin/dalle-train --config configs/shapes-64.yaml        two objects, all attributes; hours
          build/release/bin/dalle-train --config configs/images-64.yaml --set data.path=YOUR_IMAGES
EOF
