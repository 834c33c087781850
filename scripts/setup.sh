#!/usr/bin/env bash
# Installs what the build needs: Debian packages (only the missing ones), and LibTorch and the sources of sentencepiece
# under third_party/.
#
#   scripts/setup.sh                 everything
#   TORCH_ROOT=/opt/libtorch scripts/setup.sh   everything but LibTorch; the build uses the given one
#
# What is wrong with the machine is said before anything is downloaded. Repeats safely: what is there and complete is left
# alone, and an interrupted download keeps the wheels that it had finished. With a CUDA 13 toolkit (nvcc on PATH or in
# /usr/local/cuda), cuDNN 9 and NCCL 2 the CUDA libraries of LibTorch are set up as well, else the CPU ones alone.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

readonly libtorch=third_party/libtorch sentencepiece=third_party/sentencepiece
readonly packages=(
  g++ cmake ninja-build ccache lld pkg-config git ca-certificates python3 python3-pip unzip
  clang-format libfmt-dev libspdlog-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libssl-dev
  libomp5 libarchive-dev libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev
  libjpeg-dev libpng-dev zlib1g-dev libgloo-dev libgtest-dev libgmock-dev)

log=$(mktemp)
ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT  # else what it interrupted would be said to have failed

# Every ten seconds: the time, and the size of the wheels in a folder or, without one, the last line of the log.
tick() {
  local folder=$1 begin=$SECONDS so_far
  while sleep 10 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
    if [ -n "$folder" ]; then
      so_far=$({ find "$folder" -name '*.whl' -printf '%f %s\n' 2>/dev/null || true; } |  # by name: pip copies them
        awk '$2 > size[$1] {bytes += $2 - size[$1]; size[$1] = $2} END {printf "%d MB so far", bytes / 1e6}')
    else
      so_far=$(tail -c 300 "$log" | tr '\r' '\n' | tail -n 1 | cut -c 1-90)
    fi
    say "  $((SECONDS - begin)) s${so_far:+: $so_far}"
  done
}

# with_progress FOLDER COMMAND...: runs it, ticking; its output is shown only if it fails, and then the end of it.
with_progress() {
  local folder=$1 status=0
  shift
  tick "$folder" &
  ticker=$!
  "$@" >"$log" 2>&1 || status=$?  # not in the background, where Ctrl-C would not reach it
  kill $ticker 2>/dev/null || true
  wait $ticker 2>/dev/null || true
  ticker=
  [ $status -eq 0 ] || tail -n 15 "$log" >&2
  return $status
}

problems=()
wrong() { problems+=("$*"); }
stop_if_wrong() {
  [ ${#problems[@]} -gt 0 ] || return 0
  printf 'setup: error: %s\n' "${problems[@]}" >&2
  exit 1
}

missing=()
find_missing_packages() {
  local package
  for package in "${packages[@]}"; do
    # What a machine already has under another package name (clang-format, python3 from source) counts.
    case $package in
      g++|cmake|ccache|pkg-config|git|unzip|clang-format|python3) command -v "$package" >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
}

# CMake on PATH counts or, without one, the one that apt would install; it may know none before apt-get update.
check_cmake() {
  local least found
  least=$(sed -n 's/^cmake_minimum_required(VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
  if command -v cmake >/dev/null; then
    found=$(cmake --version | sed -n '1s/.* //p')
  else
    found=$(apt-cache policy cmake 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p' || true)
  fi
  [ -z "$found" ] || printf '%s\n' "$least" "$found" | sort -CV ||
    wrong "CMake $found is too old, expected $least: needs Debian 12, Ubuntu 24.04 or newer, or a newer CMake on PATH"
}

check_torch_root() {
  [ -f "$TORCH_ROOT/lib/libtorch_cpu.so" ] || { wrong "TORCH_ROOT=$TORCH_ROOT has no lib/libtorch_cpu.so"; return; }
  local version
  version=$({ cat "$TORCH_ROOT"/include/torch/{headeronly,csrc/api/include/torch}/version.h 2>/dev/null || true; } |
    sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\) \([0-9]*\).*/\2/p' | paste -sd.)
  [ "$version" = 2.11 ] || wrong "TORCH_ROOT=$TORCH_ROOT holds LibTorch ${version:-of no known version}, expected 2.11"
}

# check_disk FOLDER MEGABYTES
check_disk() {
  local free_mb
  free_mb=$(df -Pm "$1" | awk 'NR == 2 {print $4}')
  [ "$free_mb" -ge "$2" ] || wrong "needs $2 MB free under $(realpath "$1") and has $free_mb MB"
}

check_machine() {
  find_missing_packages
  if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
      wrong "needs Debian or Ubuntu (apt-get); elsewhere install: ${missing[*]}"
    elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
      wrong "needs root or sudo to install: ${missing[*]}"
    fi
  fi
  check_cmake
  local needed_mb=6000 there_mb
  if [ -n "${TORCH_ROOT:-}" ]; then
    check_torch_root
    needed_mb=2000
  else
    [ "$(uname -m)" = x86_64 ] ||
      wrong "LibTorch is fetched for x86_64 only; this is $(uname -m). Set TORCH_ROOT to a LibTorch 2.11 of this machine."
    if libtorch_is_complete; then needed_mb=2000; fi
  fi
  there_mb=$({ du -smc build/release $libtorch.part 2>/dev/null || true; } | awk 'END {print $1}')
  check_disk third_party $((needed_mb - there_mb))
  [ ${#missing[@]} -eq 0 ] || check_disk /usr 2000
}

install_packages() {
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages: already installed"; return; fi
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
    sudo true || die "sudo refused, and these are to be installed: ${missing[*]}"  # it asks here, not into the log
  fi
  say "asking the package servers what they have"
  # Without Error-Mode a server that cannot be reached is a warning; an apt too old to know it ignores it.
  if ! with_progress "" "${as_root[@]}" apt-get update -q -o APT::Update::Error-Mode=any; then
    local package
    for package in "${missing[@]}"; do  # one broken source of many may be none that matters
      apt-cache policy "$package" | grep -q '^ *Candidate: [0-9]' ||
        die "apt-get update failed, see above, and $package is not known: is the network up?"
    done
    say "apt-get update failed in part, see above; going on with the packages that are known"
  fi
  check_cmake
  stop_if_wrong
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  # Nobody sees dpkg ask about a changed config file: keep it. A fresh Ubuntu is often busy with its own upgrades: wait.
  with_progress "" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
}

# The folder with a library of the CUDA toolkit: its own, or the system's, where NVIDIA's packages put cuDNN and NCCL.
folder_of() {  # folder_of LIBRARY TOOLKIT
  local folder
  for folder in "$2"/lib64 "$2"/targets/x86_64-linux/lib /usr/lib/x86_64-linux-gnu; do
    compgen -G "$folder/$1*" >/dev/null && { printf '%s\n' "$folder"; return; }
  done
  return 1
}

toolkit_root() {  # the CUDA toolkit, when its compiler and the libraries LibTorch needs are there
  local nvcc root
  nvcc=$(command -v nvcc || true)
  [ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
  [ -n "$nvcc" ] || return 1
  root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  "$nvcc" --version | grep -q 'release 13\.' ||
    { say "CUDA toolkit at $root is not 13.x: building for the CPU" >&2; return 1; }
  if ! folder_of libcudnn.so.9 "$root" >/dev/null || ! folder_of libnccl.so.2 "$root" >/dev/null; then
    say "CUDA toolkit at $root without cuDNN 9 or NCCL 2 (packages libcudnn9-cuda-13, libnccl2): building for the CPU" >&2
    return 1
  fi
  printf '%s\n' "$root"
}

link_toolkit() {  # link_toolkit PREFIX TOOLKIT: LibTorch's run path looks in PREFIX/nvidia
  local prefix=$1 toolkit=$2 library
  mkdir -p "$prefix"/nvidia/{cudnn,nccl,cu13}/lib
  # Files, not their folder: it may be the system's, and would go before the toolkit's in the run path.
  ln -sf "$(folder_of libcudnn.so.9 "$toolkit")"/libcudnn*.so.9* "$prefix/nvidia/cudnn/lib/"
  ln -sf "$(folder_of libnccl.so.2 "$toolkit")"/libnccl.so.2* "$prefix/nvidia/nccl/lib/"
  for library in "$toolkit"/{lib64,targets/x86_64-linux/lib,extras/CUPTI/lib64}/*.so.*; do
    if [ -e "$library" ]; then ln -sf "$library" "$prefix/nvidia/cu13/lib/"; fi
  done
}

if [ -z "${TORCH_ROOT:-}" ]; then
  toolkit=$(toolkit_root) && kind=cuda || kind=cpu
  stamp="$kind $toolkit $(sha256sum scripts/libtorch-requirements.txt | cut -c1-16)"
fi
libtorch_is_complete() { [ "$(cat $libtorch/.complete 2>/dev/null)" = "$stamp" ]; }

# pip puts a wheel into its folder when it is whole, and takes those that are there: one at a time, so that an interruption
# costs one. What it has of the next one lies in TMPDIR: here, for /tmp may be small.
fetch_wheels() {  # fetch_wheels FOLDER GROUP...
  local folder=$1 requirement; shift
  rm -rf "$folder/unfinished"
  mkdir -p "$folder/unfinished"
  while read -r requirement; do
    printf '%s\n' "$requirement" >"$folder/requirement.txt"
    TMPDIR=$PWD/$folder/unfinished python3 -m pip download --progress-bar off --disable-pip-version-check --no-deps \
      --require-hashes --only-binary=:all: --python-version 3.11 --implementation cp --abi cp311 --abi none \
      --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 \
      --platform manylinux2014_x86_64 -r "$folder/requirement.txt" -d "$folder" </dev/null || return
  done < <(awk -v groups=" $* " '/^# group: /{on = index(groups, " " $3 " ")} on && !/^#/' scripts/libtorch-requirements.txt)
}

unpack() {  # unpack WHEEL FOLDER
  unzip -q -o "$1" 'torch/include/*' 'torch/lib/*' 'nvidia/*' -d "$2" || [ $? -eq 11 ]  # 11: a pattern matched nothing
}

install_libtorch() {
  if [ -n "${TORCH_ROOT:-}" ]; then say "LibTorch: using $TORCH_ROOT"; return; fi
  if libtorch_is_complete; then say "LibTorch: already installed ($kind)"; return; fi
  local part=$libtorch.part wheel
  [ "$(cat $part/.wanted 2>/dev/null)" = "$stamp" ] || rm -rf $part
  rm -rf $part/{torch,nvidia}
  mkdir -p $part
  printf '%s\n' "$stamp" >$part/.wanted
  local size=0.6
  [ "$kind" = cpu ] || size=0.8
  say "LibTorch 2.11.0 ($kind${toolkit:+, toolkit $toolkit}): downloading about $size GB"
  with_progress $part fetch_wheels $part/wheels always $kind ||
    die "could not download LibTorch from PyPI, see above: is the network down or the disk full?"
  say "LibTorch: unpacking"
  for wheel in $part/wheels/*.whl; do
    with_progress "" unpack "$wheel" $part || die "could not unpack $wheel, see above"
  done
  [ "$kind" = cpu ] || link_toolkit $part "$toolkit"
  [ -f $part/torch/lib/libtorch_cpu.so ] || die "the wheel of torch held no lib/libtorch_cpu.so"
  [ "$kind" = cuda ] || rm -f $part/torch/lib/libtorch_cuda*.so
  rm -rf $libtorch $part/wheels
  mv $part/.wanted $part/.complete
  mv $part $libtorch
}

install_sentencepiece() {
  local stamp part=$sentencepiece.part
  stamp=$(sha256sum scripts/sentencepiece-requirements.txt | cut -c1-16)
  if [ "$(cat $sentencepiece/.complete 2>/dev/null)" = "$stamp" ]; then say "sentencepiece: already installed"; return; fi
  say "sentencepiece: downloading its sources, 3 MB"
  rm -rf $part
  mkdir -p $part
  with_progress $part python3 -m pip download --progress-bar off --disable-pip-version-check --no-deps --require-hashes \
    --no-binary=sentencepiece -r scripts/sentencepiece-requirements.txt -d $part ||
    die "could not download sentencepiece from PyPI, see above: is the network down or the disk full?"
  tar -xf $part/sentencepiece-*.tar.gz -C $part
  rm -rf $sentencepiece
  mv $part/sentencepiece-*/sentencepiece $sentencepiece
  rm -rf $part
  printf '%s\n' "$stamp" >$sentencepiece/.complete
}

check_machine
stop_if_wrong
install_packages
install_libtorch
install_sentencepiece
say "done"
