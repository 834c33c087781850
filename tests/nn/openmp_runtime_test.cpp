#include <dlfcn.h>

#include <string>

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace dalle {
namespace {

/// The file name of the library to which `symbol` is bound.
std::string library_of(const char* symbol) {
  void* address = dlsym(RTLD_DEFAULT, symbol);
  Dl_info info{};
  if (address == nullptr || dladdr(address, &info) == 0) return "none";
  const std::string path(info.dli_fname);
  return path.substr(path.rfind('/') + 1);
}

TEST(OpenMpRuntime, IsLlvms) {
  EXPECT_GE(at::get_num_threads(), 1);  // makes sure that LibTorch is loaded
  for (const char* symbol : {"GOMP_parallel", "GOMP_barrier", "omp_get_max_threads"})
    EXPECT_THAT(library_of(symbol), testing::MatchesRegex("lib(omp|iomp5).*")) << symbol;
}

}  // namespace
}  // namespace dalle
