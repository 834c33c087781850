#!/usr/bin/env bash
# Packs the tools, the tests of GPUs and all shared libraries they need, except those of Torch, CUDA and libc, into one archive
# for machines without root access: dalle-VERSION-ARCHITECTURE.tar.xz in the current folder. Then unpacks it elsewhere and
# tests it.
#
#   scripts/build.sh && scripts/bundle.sh
#
# The other machine needs the same version of LibTorch (TORCH_ROOT=, or python3's torch) and a glibc no older than this
# machine's, so build on the oldest system that should run it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
readonly root

die() { printf 'bundle: error: %s\n' "$*" >&2; exit 1; }
readonly tools=(dalle-train dalle-sample dalle-eval dalle-import dalle-export dalle-serve dalle-bench device_test)
readonly largest=60  # MB
for tool in "${tools[@]}"; do
  [ -x "$root/build/release/bin/$tool" ] || die "build/release/bin/$tool does not exist; run scripts/build.sh"
done

torch=$(realpath -m "${TORCH_ROOT:-$root/third_party/libtorch/torch}")
version_header=$(find -L "$torch/include" -name version.h -path '*torch/headeronly*' | head -n 1)
[ -n "$version_header" ] || die "$torch: found no version.h of LibTorch"
torch_version=$(sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\).*/\2/p' "$version_header" | paste -sd.)
version=$(sed -n 's/^project(dalle .*VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
name=dalle-$version-$(uname -m)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=$work/$name
mkdir -p "$bundle"/{bin,lib,libexec}

for tool in "${tools[@]}"; do
  strip -o "$bundle/libexec/$tool" "$root/build/release/bin/$tool"
done

# All libraries that the loader finds, except Torch, CUDA and the C library, which the other machine provides.
ldd "${tools[@]/#/$root/build/release/bin/}" |
  awk '$2 == "=>" && $3 ~ /^\// {print $3}' | sort -u |
  grep -v -e "^$torch/" -e '/nvidia/' -e '/libcuda' -e '/libcu[a-z]*\.so' -e '/libnvidia' -e '/libnccl' \
    -e '/libtorch' -e '/libc10' -e '/libgomp' \
    -e '/lib\(c\|m\|dl\|rt\|pthread\|resolv\|util\)\.so' |
  while read -r library; do cp -L "$library" "$bundle/lib/"; done
chmod u+w "$bundle"/lib/*
strip --strip-unneeded "$bundle"/lib/*

for tool in "${tools[@]}"; do
  cat >"$bundle/bin/$tool" <<WRAPPER
#!/usr/bin/env bash
# Finds LibTorch $torch_version, in TORCH_ROOT or python3's torch, and starts $tool with it.
here=\$(cd "\$(dirname "\$(readlink -f "\${BASH_SOURCE[0]}")")/.." && pwd)
torch=\${TORCH_ROOT:-\$(python3 -c 'import importlib.util; print(importlib.util.find_spec("torch").submodule_search_locations[0])' 2>/dev/null)}
if [ ! -e "\$torch/lib/libtorch_cpu.so" ]; then
  echo "error: found no LibTorch in \"\$torch\"; set TORCH_ROOT to the LibTorch $torch_version folder that contains lib/libtorch_cpu.so" >&2
  exit 1
fi
header=\$(find -L "\$torch/include" -name version.h -path '*torch/headeronly*' 2>/dev/null | head -n 1)
found=\$([ -z "\$header" ] || sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\|PATCH\) \([0-9]*\).*/\2/p' "\$header" | paste -sd.)
if [ -n "\$found" ] && [ "\$found" != $torch_version ]; then
  echo "error: \$torch is LibTorch \$found; this was built for $torch_version" >&2
  exit 1
fi
# The libcudart of a CUDA build is next to pip's torch, where LibTorch's run path finds it but a program's does not.
export LD_LIBRARY_PATH="\$torch/lib:\$torch/../nvidia/cu13/lib:\$here/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
exec "\$here/libexec/$tool" "\$@"
WRAPPER
  chmod +x "$bundle/bin/$tool"
done
# scripts/gpu_check.py and device_test expect these at the same paths as in a checkout.
(cd "$root" && cp -r --parents configs LICENSE scripts/{gpu_check,compare_runs}.py tests/tools/tiny.yaml "$bundle")
cat >"$bundle/README" <<TEXT
dalle $version for $(uname -m), LibTorch $torch_version, glibc $(ldd --version | sed -n '1s/.* //p') or newer.

  export TORCH_ROOT=/path/to/libtorch     # not needed if python3 has torch $torch_version
  bin/dalle-train --config configs/images-64.yaml --set data.path=my-images
  bin/dalle-sample "a red apple"
  scripts/gpu_check.py                    # compares this machine's GPUs with its CPU; needs Python 3.8 or later

lib/ holds copies of this system's libraries, each under its own license.
TEXT

archive=$PWD/$name.tar.xz
tar -C "$work" -c "$name" | xz -T0 -9 >"$archive"
size=$(($(stat -c %s "$archive") / 1000000))
[ "$size" -lt $largest ] || die "$archive: $size MB, expected less than $largest"

# Unpacked elsewhere, the tools may load only libraries of the bundle, Torch, CUDA and the C library.
rm -rf "$bundle"
mkdir "$work/elsewhere"
tar -C "$work/elsewhere" -xf "$archive"
there=$work/elsewhere/$name
run() { env -i PATH=/usr/bin:/bin HOME="$work" TORCH_ROOT="$torch" "$@"; }
strays=$(LD_LIBRARY_PATH="$torch/lib:$torch/../nvidia/cu13/lib:$there/lib" ldd "$there"/libexec/* |
  awk '$2 == "=>" {print $3}' |
  grep -v -e "^$there/" -e "^$torch/" -e '/nvidia/' -e '/libcu[a-z]*\.so' \
    -e '/lib\(c\|m\|dl\|rt\|pthread\|resolv\|util\)\.so' || true)
[ -z "$strays" ] || die "the unpacked bundle loads libraries of this machine: $strays"
for tool in "${tools[@]}"; do
  run "$there/bin/$tool" --help >/dev/null || die "the unpacked $tool does not start"
done
run "$there/bin/dalle-train" --config "$there/configs/shapes-demo.yaml" --dry-run >/dev/null || die "the unpacked dalle-train does not run"
run "$there/bin/dalle-train" --config "$there/tests/tools/tiny.yaml" --device cpu --run-dir "$work/run" --ranks 2 2>"$work/log" ||
  { cat "$work/log" >&2; die "the unpacked dalle-train does not train"; }
run "$there/bin/dalle-sample" --model "$work/run" --device cpu --count 1 --out "$work/images" "a red circle" 2>"$work/log" ||
  { cat "$work/log" >&2; die "the unpacked dalle-sample does not generate images"; }
if env -i PATH=/usr/bin:/bin TORCH_ROOT=/nowhere "$there/bin/dalle-train" --help >/dev/null 2>&1; then die "a missing LibTorch is not reported"; fi
printf 'bundle: %s, %s MB, tested\n' "$archive" "$size"
