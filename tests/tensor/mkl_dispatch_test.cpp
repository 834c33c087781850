#include <dlfcn.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

namespace dalle {
namespace {

/// MKL's name for "AVX2", the least that is fast, in the order of its instruction sets.
constexpr int kBranchAvx2 = 10;

TEST(MklDispatch, UsesAvx2OnEveryProcessorThatHasIt) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "this processor lacks AVX2";
  torch::ones({2, 2}).matmul(torch::ones({2, 2}));  // so that the library is linked
  using GetBranch = int();
  const auto get_branch =
      reinterpret_cast<GetBranch*>(dlsym(RTLD_DEFAULT, "mkl_serv_cbwr_get_auto_branch"));
  if (get_branch == nullptr) GTEST_SKIP() << "this LibTorch does not contain MKL";
  EXPECT_GE(get_branch(), kBranchAvx2);
}

TEST(MklDispatch, TakesTheDefinitionOfThisProgram) {
  const void* const found = dlsym(RTLD_DEFAULT, "mkl_serv_intel_cpu_true");
  Dl_info library{};
  ASSERT_NE(dladdr(found, &library), 0);
  EXPECT_THAT(library.dli_fname, testing::Not(testing::HasSubstr("libtorch")));
}

}  // namespace
}  // namespace dalle
