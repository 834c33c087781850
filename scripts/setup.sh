#!/usr/bin/env bash
# Installs what the build needs: Debian packages (only the missing ones) and LibTorch under third_party/.
#
#   scripts/setup.sh                 everything
#   TORCH_ROOT=/opt/libtorch scripts/setup.sh   packages only; the build uses that LibTorch
#
# Repeats safely: what is there and complete is left alone. With a CUDA toolkit on PATH (nvcc) the CUDA
# libraries of LibTorch are set up as well, else the CPU ones alone.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

readonly libtorch=third_party/libtorch
readonly packages=(
  g++ cmake ninja-build ccache lld pkg-config git ca-certificates python3 python3-pip unzip
  clang-format libfmt-dev libspdlog-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libssl-dev
  libsentencepiece-dev libarchive-dev libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev
  libjpeg-dev zlib1g-dev libgloo-dev
  libgtest-dev libgmock-dev)

[ "$(uname -m)" = x86_64 ] || [ -n "${TORCH_ROOT:-}" ] ||
  die "LibTorch is fetched for x86_64 only; this is $(uname -m). Set TORCH_ROOT to a LibTorch 2.11 of this machine."

install_packages() {
  command -v apt-get >/dev/null || die "needs Debian or Ubuntu (apt-get); elsewhere install: ${packages[*]}"
  local missing=() package
  for package in "${packages[@]}"; do
    # What a machine already has under another package name (clang-format, python3 from source) counts.
    case $package in
      g++|cmake|ccache|pkg-config|git|unzip|clang-format|python3) command -v "$package" >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages: all there"; return; fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "needs root or sudo to install: ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update -qq || die "apt-get update failed: is the network up?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null || die "apt-get could not install: ${missing[*]}"
}

toolkit_root() {  # the CUDA toolkit, when its compiler and the libraries LibTorch needs are there
  local nvcc root
  nvcc=$(command -v nvcc || true)
  [ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
  [ -n "$nvcc" ] || return 1
  root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  "$nvcc" --version | grep -q 'release 13\.' || { say "CUDA toolkit at $root is not 13.x: building for the CPU" >&2; return 1; }
  compgen -G "$root/lib64/libcudnn.so.9*" >/dev/null && compgen -G "$root/lib64/libnccl.so.2*" >/dev/null ||
    { say "CUDA toolkit at $root lacks cuDNN 9 or NCCL 2: building for the CPU" >&2; return 1; }
  printf '%s\n' "$root"
}

fetch_wheels() {  # fetch_wheels FOLDER GROUP...
  local folder=$1 group; shift
  local requirements=$folder/requirements.txt
  mkdir -p "$folder"; : > "$requirements"
  for group in "$@"; do
    awk -v group="$group" '/^# group: /{on = ($3 == group)} on && !/^#/' scripts/libtorch-requirements.txt >> "$requirements"
  done
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
    --python-version 3.11 --implementation cp --abi cp311 --abi none --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    -r "$requirements" -d "$folder" || die "could not download LibTorch from PyPI: is the network up, is the disk full?"
}

link_toolkit() {  # link_toolkit PREFIX TOOLKIT: LibTorch's run path looks in PREFIX/nvidia
  local prefix=$1 toolkit=$2 library
  mkdir -p "$prefix"/nvidia/{cudnn,nccl,cu13/lib}
  ln -sfn "$toolkit/lib64" "$prefix/nvidia/cudnn/lib"
  ln -sfn "$toolkit/lib64" "$prefix/nvidia/nccl/lib"
  for library in "$toolkit"/lib64/*.so.* "$toolkit"/extras/CUPTI/lib64/*.so.*; do
    if [ -e "$library" ]; then ln -sf "$library" "$prefix/nvidia/cu13/lib/"; fi
  done
}

install_libtorch() {
  if [ -n "${TORCH_ROOT:-}" ]; then
    [ -f "$TORCH_ROOT/lib/libtorch_cpu.so" ] || die "TORCH_ROOT=$TORCH_ROOT has no lib/libtorch_cpu.so"
    say "LibTorch: using $TORCH_ROOT"; return
  fi
  local toolkit kind stamp
  toolkit=$(toolkit_root) && kind=cuda || kind=cpu
  stamp="$kind $toolkit $(sha256sum scripts/libtorch-requirements.txt | cut -c1-16)"
  if [ -f $libtorch/.complete ] && [ "$(cat $libtorch/.complete)" = "$stamp" ]; then
    say "LibTorch: all there ($kind)"; return
  fi
  local free_mb; free_mb=$(df -Pm third_party | awk 'NR == 2 {print $4}')
  [ "$free_mb" -ge 5000 ] || die "needs 5 GB free under third_party/ and has $free_mb MB"
  say "LibTorch 2.11.0 ($kind${toolkit:+, toolkit $toolkit}): downloading about 0.6 GB"
  rm -rf $libtorch $libtorch.part
  fetch_wheels $libtorch.part/wheels always $kind
  say "LibTorch: unpacking"
  local wheel
  for wheel in $libtorch.part/wheels/*.whl; do
    unzip -q -o "$wheel" 'torch/include/*' 'torch/lib/*' 'nvidia/*' -d $libtorch.part 2>/dev/null ||
      [ $? -eq 11 ] || die "could not unpack $wheel"   # 11: a pattern matched nothing, as expected
  done
  rm -rf $libtorch.part/wheels
  [ "$kind" = cpu ] || link_toolkit $libtorch.part "$toolkit"
  [ -f $libtorch.part/torch/lib/libtorch_cpu.so ] || die "the wheel of torch held no lib/libtorch_cpu.so"
  [ "$kind" = cuda ] || rm -f $libtorch.part/torch/lib/libtorch_cuda*.so
  printf '%s\n' "$stamp" > $libtorch.part/.complete
  mv $libtorch.part $libtorch
}

install_packages
install_libtorch
say "done"
