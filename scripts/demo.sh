#!/usr/bin/env bash
# From clone to picture: sets everything up, trains configs/shapes-demo.yaml on the CPU and draws 8 captions x 4 pictures.
#
#   scripts/demo.sh                     on the CPU: the README's numbers are its
#   DALLE_DEVICE=cuda scripts/demo.sh   on another device, as --device names it
#
# Interrupt it whenever you like and start it again: what is finished is not done twice, and training resumes.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly run=runs/shapes-demo device=${DALLE_DEVICE:-cpu}
readonly captions=(
  "a red circle" "a blue square" "a green triangle" "a yellow diamond"
  "a purple ring" "a cyan circle" "a blue diamond" "a green square")

say() { printf '\n== %s\n' "$*"; }
began=$SECONDS

say "1/4 packages and LibTorch"
scripts/setup.sh
say "2/4 build"
scripts/build.sh dalle-train dalle-sample
say "3/4 training on $device: tokenizer, dVAE, DALL-E ($run)"
build/release/bin/dalle-train --config configs/shapes-demo.yaml --device "$device"
say "4/4 pictures"
build/release/bin/dalle-sample --model "$run" --device "$device" --count 4 --seed 1 --grid "$run/samples.png" \
  --out "$run/pictures" "${captions[@]}"

say "done in $(((SECONDS - began) / 60)) min $(((SECONDS - began) % 60)) s"
cat <<EOF
Look at   $run/samples.png: a row for each of: ${captions[*]@Q}
Try       build/release/bin/dalle-sample "a small purple circle on a black background"
          build/release/bin/dalle-train --config configs/shapes-64.yaml        two objects, all attributes; hours
          build/release/bin/dalle-train --config configs/pictures-64.yaml --set data.path=YOUR_PICTURES
EOF
