#include "nn/decode_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include <ATen/Version.h>

// The same source is compiled once per instruction set. GCC compiles operations on its vector types
// for the target of the enclosing function, so every function carries the target attribute.
#define DALLE_LANES 4
#define DALLE_ROWS_AT_ONCE 1
#define DALLE_TARGET
namespace dalle::baseline_kernels {
#include "nn/decode_kernels.inc"
}  // namespace dalle::baseline_kernels
#undef DALLE_LANES
#undef DALLE_ROWS_AT_ONCE
#undef DALLE_TARGET

#if defined(__x86_64__)
#define DALLE_LANES 8
#define DALLE_ROWS_AT_ONCE 3
#define DALLE_TARGET __attribute__((target("avx2,fma")))
namespace dalle::avx2_kernels {
#include "nn/decode_kernels.inc"
}  // namespace dalle::avx2_kernels
#undef DALLE_LANES
#undef DALLE_ROWS_AT_ONCE
#undef DALLE_TARGET

#define DALLE_LANES 16
#define DALLE_ROWS_AT_ONCE 8
#define DALLE_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")))
namespace dalle::avx512_kernels {
#include "nn/decode_kernels.inc"
}  // namespace dalle::avx512_kernels
#undef DALLE_LANES
#undef DALLE_ROWS_AT_ONCE
#undef DALLE_TARGET
#endif

namespace dalle {
namespace {

constexpr DecodeKernels kBaseline = baseline_kernels::table("baseline");
#if defined(__x86_64__)
constexpr DecodeKernels kAvx2 = avx2_kernels::table("AVX2");
constexpr DecodeKernels kAvx512 = avx512_kernels::table("AVX512");
#endif

std::vector<const DecodeKernels*> find_supported() {
  std::vector<const DecodeKernels*> found{&kBaseline};
#if defined(__x86_64__)
  const std::string capability = at::get_cpu_capability();
  if (capability.starts_with("AVX")) found.push_back(&kAvx2);
  if (capability.starts_with("AVX512")) found.push_back(&kAvx512);
#endif
  return found;
}

}  // namespace

std::span<const DecodeKernels* const> supported_decode_kernels() {
  static const std::vector<const DecodeKernels*> supported = find_supported();
  return supported;
}

const DecodeKernels& decode_kernels() {
  return *supported_decode_kernels().back();
}

}  // namespace dalle
