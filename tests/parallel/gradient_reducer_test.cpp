#include "parallel/gradient_reducer.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "ranks.h"

namespace dalle {
namespace {

constexpr int64_t kMicroBatches = 8;

/// A chain of matrices, some blocks of the flat buffer long, and a parameter that no loss uses.
struct Chain : torch::nn::Module {
  Chain() {
    torch::manual_seed(21);
    for (int i = 0; i < 4; ++i)
      matrices.push_back(
          register_parameter("matrix_" + std::to_string(i), torch::randn({70, 70}) / 8));
    register_parameter("unused", torch::randn({3000}));
  }

  /// The loss of one micro-batch.
  at::Tensor loss(int64_t micro_batch) const {
    torch::manual_seed(100 + static_cast<uint64_t>(micro_batch));
    auto x = torch::randn({5, 70}) * std::exp(static_cast<double>(micro_batch) - 4);
    for (const at::Tensor& matrix : matrices) x = at::tanh(x.matmul(matrix)) + x;
    return x.square().sum();
  }

  std::vector<at::Tensor> matrices;
};

/// Ranks are threads here, and draw from one generator: their data is made beforehand.
std::vector<at::Tensor> gradients_of_micro_batches() {
  std::vector<at::Tensor> result;
  for (int64_t i = 0; i < kMicroBatches; ++i) {
    Chain chain;
    const FlatParameters flat(chain);
    chain.loss(i).backward();
    result.push_back(flat.gradients().clone());
  }
  return result;
}

/// A loss whose gradient is the given one.
void backward_to(FlatParameters& flat, const at::Tensor& gradient) {
  at::Tensor loss = torch::zeros({});
  for (size_t i = 0; i + 1 < flat.slices().size(); ++i)  // all but the unused one
    loss = loss + (flat.parameters()[i] * flat.slices()[i].view_of(gradient)).sum();
  loss.backward();
}

struct Reduced {
  at::Tensor gradients;  ///< [P of one rank], of rank 0 after all ranks shared what they own
  double norm = 0;
};

/// One step on each rank of a world, each with its part of the micro-batches.
std::vector<Reduced> reduce(int64_t world, const DistributedConfig& config,
                            const std::vector<at::Tensor>& terms) {
  std::vector<Chain> chains(static_cast<size_t>(world));
  std::vector<Reduced> results(chains.size());
  on_ranks(world, [&](ProcessGroup& group) {
    const auto rank = static_cast<size_t>(group.rank());
    FlatParameters flat(chains[rank], world);
    const auto reducer = make_gradient_reducer(flat, group, config);
    for (int step = 0; step < 2; ++step) {  // the second shows that nothing is left of the first
      reducer->begin_step();
      const int64_t first = kMicroBatches * group.rank() / world;
      const int64_t end = kMicroBatches * (group.rank() + 1) / world;
      for (int64_t i = first; i < end; ++i) {
        reducer->before_backward(i + 1 == end);
        backward_to(flat, terms[static_cast<size_t>(i)]);
        reducer->after_backward();
      }
      reducer->finish();
    }
    results[rank].norm = reducer->norm();
    reducer->all_gather_owned(flat.gradients());
    results[rank].gradients = flat.gradients().narrow(0, 0, terms[0].numel()).clone();
  });
  return results;
}

class GradientReducers : public testing::TestWithParam<bool> {
 protected:
  DistributedConfig config() const {
    return {.bucket_mb = 0.02, .shard_optimizer = GetParam()};  // several buckets
  }
  const std::vector<at::Tensor> terms_ = gradients_of_micro_batches();
};

TEST_P(GradientReducers, AddUpAllMicroBatchesOfAllRanks) {
  at::Tensor expected = torch::zeros_like(terms_[0], torch::kDouble);
  for (const at::Tensor& term : terms_) expected += term.to(torch::kDouble);
  const double scale = expected.abs().max().item<double>();
  for (const bool exact : {false, true})
    for (const int64_t world : {1, 2, 3, 4}) {
      if (exact && world == 3) continue;
      DistributedConfig config = this->config();
      config.bitwise = exact;
      for (const Reduced& result : reduce(world, config, terms_)) {
        EXPECT_LT((result.gradients - expected).abs().max().item<double>(), 1e-5 * scale)
            << world << " ranks";
        EXPECT_NEAR(result.norm / expected.norm().item<double>(), 1, 1e-5) << world << " ranks";
      }
    }
}

TEST_P(GradientReducers, OfExactTrainingGiveTheSameBitsWhateverTheNumberOfRanks) {
  DistributedConfig config = this->config();
  config.bitwise = true;
  const Reduced one = reduce(1, config, terms_).front();
  for (const int64_t world : {2, 4, 8})
    for (const Reduced& result : reduce(world, config, terms_)) {
      EXPECT_TRUE(torch::equal(result.gradients, one.gradients)) << world << " ranks";
      EXPECT_EQ(result.norm, one.norm) << world << " ranks";
    }
}

TEST_P(GradientReducers, OfBfloat16AreRoundedToIt) {
  DistributedConfig config = this->config();
  config.reduce_dtype = Precision::kBfloat16;
  const Reduced exact = reduce(2, this->config(), terms_).front();
  const Reduced rounded = reduce(2, config, terms_).front();
  EXPECT_TRUE(torch::equal(rounded.gradients, rounded.gradients.to(torch::kBFloat16)));
  EXPECT_NEAR(rounded.norm / exact.norm, 1, 0.01);
}

TEST_P(GradientReducers, KeepAGradientThatIsNotFiniteVisibleToAll) {
  std::vector<at::Tensor> terms = terms_;
  terms[5] = terms[5].clone();
  terms[5][4000] = std::nanf("");
  for (const Reduced& result : reduce(4, config(), terms)) EXPECT_FALSE(std::isfinite(result.norm));
}

INSTANTIATE_TEST_SUITE_P(Ownership, GradientReducers, testing::Bool(),
                         [](const auto& value) { return value.param ? "sharded" : "replicated"; });

TEST(GradientReducer, OwnsAllOrAShard) {
  on_ranks(2, [](ProcessGroup& group) {
    Chain chain;
    FlatParameters flat(chain, 2);
    const auto all = make_gradient_reducer(flat, group, {});
    EXPECT_EQ(all->owned().size(), 1u);
    EXPECT_EQ(all->owned()[0].size, flat.values().numel());
    const auto shard = make_gradient_reducer(flat, group, {.shard_optimizer = true});
    int64_t owned = 0;
    for (const FlatRange& range : shard->owned()) owned += range.size;
    EXPECT_EQ(owned, flat.values().numel() / 2);
  });
}

}  // namespace
}  // namespace dalle
