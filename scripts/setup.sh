#!/usr/bin/env bash
# Installs everything that the build needs: missing Debian packages, and LibTorch and the sources of sentencepiece under
# third_party/.
#
#   scripts/setup.sh                 everything
#   scripts/setup.sh --checks        everything, and what scripts/check_tidy.py and scripts/fuzz.sh need: clang
#   TORCH_ROOT=/opt/libtorch scripts/setup.sh   everything except LibTorch; the build uses the given one
#
# Problems with the machine are reported before anything is downloaded. The script can be repeated: it skips what is already
# complete, and an interrupted download keeps its finished wheels. With a CUDA 13 toolkit (nvcc on PATH or in
# /usr/local/cuda), cuDNN 9 and NCCL 2, it also installs the CUDA libraries of LibTorch, and Triton, which
# compiles kernels for GPUs.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

readonly libtorch=third_party/libtorch sentencepiece=third_party/sentencepiece
packages=(
  g++ cmake ninja-build ccache lld pkg-config git ca-certificates python3 python3-pip unzip
  clang-format libfmt-dev libspdlog-dev libyaml-cpp-dev nlohmann-json3-dev libcli11-dev libssl-dev
  libomp5 libarchive-dev libicu-dev libopencv-core-dev libopencv-imgproc-dev libopencv-imgcodecs-dev
  libjpeg-dev libpng-dev zlib1g-dev libgloo-dev libgtest-dev libgmock-dev)
# Debian 12's libboost-dev is 1.74, in which coroutines do not compile.
if grep -q '^VERSION_CODENAME=bookworm' /etc/os-release 2>/dev/null; then packages+=(libboost1.81-dev); else packages+=(libboost-dev); fi
case ${1:-} in
  --checks) packages+=(clang clang-tidy libclang-rt-dev) ;;
  '') ;;
  *) die "found the argument '$1', expected --checks or no argument" ;;
esac
readonly packages

log=$(mktemp)
ticker=
trap '[ -z "$ticker" ] || kill "$ticker" 2>/dev/null; rm -f "$log"' EXIT
trap 'exit 130' INT  # else the interrupted command would be reported as failed

# Prints every ten seconds the elapsed time and the size of the wheels in a folder or, without one, the log's last line.
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

# with_progress FOLDER COMMAND...: runs the command with progress lines; shows the end of its output only if it fails.
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
    # Commands that come from another package (clang-format, or python3 built from source) count as installed.
    case $package in
      g++|cmake|ccache|pkg-config|git|unzip|clang-format|clang-tidy|clang|python3) command -v "$package" >/dev/null && continue ;;
      ninja-build) command -v ninja >/dev/null && continue ;;
      python3-pip) python3 -m pip --version >/dev/null 2>&1 && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
}

# Checks the CMake on PATH or, if there is none, the one that apt would install, which may be unknown before apt-get update.
check_cmake() {
  local least found
  least=$(sed -n 's/^cmake_minimum_required(VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
  if command -v cmake >/dev/null; then
    found=$(cmake --version | sed -n '1s/.* //p')
  else
    found=$(apt-cache policy cmake 2>/dev/null | sed -n 's/^ *Candidate: \([0-9].*\)/\1/p' || true)
  fi
  [ -z "$found" ] || printf '%s\n' "$least" "$found" | sort -CV ||
    wrong "found CMake $found, expected $least or newer: use Debian 12, Ubuntu 24.04 or newer, or put a newer CMake on PATH"
}

check_torch_root() {
  [ -f "$TORCH_ROOT/lib/libtorch_cpu.so" ] || { wrong "TORCH_ROOT=$TORCH_ROOT has no lib/libtorch_cpu.so"; return; }
  local version
  version=$({ cat "$TORCH_ROOT"/include/torch/{headeronly,csrc/api/include/torch}/version.h 2>/dev/null || true; } |
    sed -n 's/^#define TORCH_VERSION_\(MAJOR\|MINOR\) \([0-9]*\).*/\2/p' | paste -sd.)
  [ "$version" = 2.11 ] || wrong "TORCH_ROOT=$TORCH_ROOT contains LibTorch ${version:-of an unknown version}, expected 2.11"
}

# check_disk FOLDER MEGABYTES
check_disk() {
  local free_mb
  free_mb=$(df -Pm "$1" | awk 'NR == 2 {print $4}')
  [ "$free_mb" -ge "$2" ] || wrong "$(realpath "$1") has $free_mb MB of free space, expected $2 MB"
}

check_machine() {
  find_missing_packages
  if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
      wrong "found no apt-get; without Debian or Ubuntu, install these yourself: ${missing[*]}"
    elif [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
      wrong "found neither root privileges nor sudo, one of which is needed to install: ${missing[*]}"
    fi
  fi
  check_cmake
  local needed_mb=7000 there_mb
  if [ -n "${TORCH_ROOT:-}" ]; then
    check_torch_root
    needed_mb=2000
  else
    [ "$(uname -m)" = x86_64 ] ||
      wrong "LibTorch can be downloaded only for x86_64, but this machine is $(uname -m); set TORCH_ROOT to a LibTorch 2.11 for it"
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
    sudo true || die "sudo failed, but is needed to install: ${missing[*]}"  # asks for the password here, not in the log
  fi
  say "updating the package lists"
  # Without Error-Mode an unreachable server is only a warning. An apt that is too old for it ignores the option.
  if ! with_progress "" "${as_root[@]}" apt-get update -q -o APT::Update::Error-Mode=any; then
    local package
    for package in "${missing[@]}"; do  # a failed source may be irrelevant
      apt-cache policy "$package" | grep -q '^ *Candidate: [0-9]' ||
        die "apt-get update failed (see above) and $package is not available; is the network up?"
    done
    say "apt-get update failed in part (see above); continuing with the available packages"
  fi
  check_cmake
  stop_if_wrong
  say "installing ${#missing[@]} Debian packages: ${missing[*]}"
  # dpkg's question about a changed config file would be invisible, so keep the file. A fresh Ubuntu is often busy with its
  # own upgrades, so wait for the lock.
  with_progress "" "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
    -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
}

# Prints the folder that has a CUDA library: the toolkit's, or the system's, where NVIDIA's packages put cuDNN and NCCL.
folder_of() {  # folder_of LIBRARY TOOLKIT
  local folder
  for folder in "$2"/lib64 "$2"/targets/x86_64-linux/lib /usr/lib/x86_64-linux-gnu; do
    compgen -G "$folder/$1*" >/dev/null && { printf '%s\n' "$folder"; return; }
  done
  return 1
}

toolkit_root() {  # the CUDA toolkit, if its compiler and the libraries that LibTorch needs exist
  local nvcc root
  nvcc=$(command -v nvcc || true)
  [ -n "$nvcc" ] || [ ! -x /usr/local/cuda/bin/nvcc ] || nvcc=/usr/local/cuda/bin/nvcc
  [ -n "$nvcc" ] || return 1
  root=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  "$nvcc" --version | grep -q 'release 13\.' ||
    { say "the CUDA toolkit at $root is not 13.x; building for the CPU" >&2; return 1; }
  if ! folder_of libcudnn.so.9 "$root" >/dev/null || ! folder_of libnccl.so.2 "$root" >/dev/null ||
    [ -z "$(ls "$root"/include/nccl.h "$root"/targets/*/include/nccl.h /usr/{local/,}include/nccl.h 2>/dev/null)" ]; then
    say "the CUDA toolkit at $root has no cuDNN 9 or NCCL 2 (packages libcudnn9-cuda-13, libnccl-dev); building for the CPU" >&2
    return 1
  fi
  printf '%s\n' "$root"
}

link_toolkit() {  # link_toolkit PREFIX TOOLKIT: LibTorch's run path looks in PREFIX/nvidia
  local prefix=$1 toolkit=$2 library
  mkdir -p "$prefix"/nvidia/{cudnn,nccl,cu13}/lib
  # Link files rather than their folder, which may be the system's and would precede the toolkit's in the run path.
  ln -sf "$(folder_of libcudnn.so.9 "$toolkit")"/libcudnn*.so.9* "$prefix/nvidia/cudnn/lib/"
  ln -sf "$(folder_of libnccl.so.2 "$toolkit")"/libnccl.so.2* "$prefix/nvidia/nccl/lib/"
  for library in "$toolkit"/{lib64,targets/x86_64-linux/lib,extras/CUPTI/lib64}/*.so.*; do
    if [ -e "$library" ]; then ln -sf "$library" "$prefix/nvidia/cu13/lib/"; fi
  done
}

if [ -z "${TORCH_ROOT:-}" ]; then
  toolkit=$(toolkit_root) && kind=cuda || kind=cpu
  stamp="$kind $toolkit $(sha256sum scripts/libtorch-requirements.txt | cut -c1-16)"
  [ "$kind" = cpu ] || stamp+=" with Python"  # see unpack
fi
libtorch_is_complete() { [ "$(cat $libtorch/.complete 2>/dev/null)" = "$stamp" ]; }

# pip moves a wheel to the folder when it is complete, and reuses wheels that are there. Wheels are downloaded one at a time,
# so an interruption loses only one. TMPDIR holds the unfinished one; it is here because /tmp may be small.
fetch_wheels() {  # fetch_wheels FOLDER GROUP...
  local folder=$1 requirement; shift
  rm -rf "$folder/unfinished"
  mkdir -p "$folder/unfinished"
  while read -r requirement; do
    printf '%s\n' "$requirement" >"$folder/requirement.txt"
    local target=(--python-version 3.11 --implementation cp --abi cp311 --abi none
      --platform manylinux_2_28_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64
      --platform manylinux2014_x86_64)
    if [[ $requirement = triton=* ]]; then target=(); fi  # the build runs it, with this machine's Python
    TMPDIR=$PWD/$folder/unfinished python3 -m pip download --progress-bar off --disable-pip-version-check --no-deps \
      --require-hashes --only-binary=:all: "${target[@]}" -r "$folder/requirement.txt" -d "$folder" </dev/null ||
      [[ $requirement = triton=* ]] || return
  done < <(awk -v groups=" $* " '/^# group: /{on = index(groups, " " $3 " ")} on && !/^#/' scripts/libtorch-requirements.txt)
}

unpack() {  # unpack WHEEL FOLDER
  local parts=('torch/include/*' 'torch/lib/*' 'nvidia/*')
  # The Python half, 99 MB, lets the tests import torch. It cannot load without the CUDA libraries.
  [ "$kind" = cpu ] || parts+=('torch/*' 'torchgen/*' 'triton/*' 'triton-*/entry_points.txt')
  unzip -q -o "$1" "${parts[@]}" -d "$2" || [ $? -eq 11 ]  # 11: a pattern matched nothing
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
  [ "$kind" = cpu ] || size=1.0
  say "LibTorch 2.11.0 ($kind${toolkit:+, toolkit $toolkit}): downloading about $size GB"
  with_progress $part fetch_wheels $part/wheels always $kind ||
    die "could not download LibTorch from PyPI (see above); is the network down or the disk full?"
  say "LibTorch: unpacking"
  for wheel in $part/wheels/*.whl; do
    with_progress "" unpack "$wheel" $part || die "could not unpack $wheel (see above)"
  done
  if [ "$kind" = cuda ]; then
    link_toolkit $part "$toolkit"
    [ -d $part/triton ] || say "found no Triton for this Python, 3.10 to 3.14; building without kernels for GPUs"
  fi
  [ -f $part/torch/lib/libtorch_cpu.so ] || die "the torch wheel contains no lib/libtorch_cpu.so"
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
    die "could not download sentencepiece from PyPI (see above); is the network down or the disk full?"
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
