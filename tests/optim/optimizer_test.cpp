#include "optim/optimizer.h"

#include <vector>

#include <gtest/gtest.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "optim/muon.h"

namespace dalle {
namespace {

constexpr AdamWOptions kDecayed{
    .beta1 = 0.9, .beta2 = 0.96, .epsilon = 1e-8, .weight_decay = 4.5e-2};

/// Two hidden matrices between other parameters.
struct SmallModule : torch::nn::Module {
  SmallModule() {
    torch::manual_seed(8);
    register_parameter("embedding", torch::randn({7, 5}));
    register_parameter("hidden_1", torch::randn({9, 5}));
    register_parameter("bias", torch::randn({9}));
    register_parameter("hidden_2", torch::randn({5, 9}));
    register_parameter("hidden_gain", torch::randn({5}));
  }
};

bool is_hidden(const std::string& name) {
  return name.starts_with("hidden");
}

bool has_weight_decay(const std::string& name) {
  return name != "bias";
}

at::Tensor gradients_of(int seed, const FlatParameters& flat) {
  torch::manual_seed(seed);
  const auto gradients = torch::zeros_like(flat.values());
  for (const FlatParameters::Slice& slice : flat.slices())
    slice.view_of(gradients).copy_(torch::randn(slice.shape));
  return gradients;
}

/// [P] the states, with zeros elsewhere.
at::Tensor joined(const std::vector<FlatState*>& states, const FlatParameters& flat) {
  const auto moment = torch::zeros_like(flat.values());
  for (const FlatState* state : states) state->copy_to(moment);
  return moment;
}

TEST(Optimizer, WithoutMuonIsAdamW) {
  SmallModule module;
  const FlatParameters flat(module);
  const auto weights = flat.values().clone();
  AdamW adamw(weights, kDecayed, all_of(weights));
  Optimizer optimizer(flat, OptimizerKind::kAdamW, kDecayed, is_hidden, all_of(flat.values()));
  for (int step = 0; step < 3; ++step) {
    adamw.step(gradients_of(step, flat), 1e-2);
    optimizer.step(gradients_of(step, flat), 1e-2);
  }
  EXPECT_TRUE(torch::equal(flat.values(), weights));
  EXPECT_TRUE(
      torch::equal(joined(optimizer.second_moment(), flat), adamw.second_moment().parts()[0]));
}

TEST(Optimizer, UpdatesHiddenMatricesWithMuonAndTheRestWithAdamW) {
  SmallModule module;
  const FlatParameters flat(module);
  const auto by_adamw = flat.values().clone(), by_muon = flat.values().clone();
  const auto momentum = torch::zeros_like(by_muon);
  AdamW adamw(by_adamw, kDecayed, all_of(by_adamw));
  Optimizer optimizer(flat, OptimizerKind::kMuon, kDecayed, is_hidden, all_of(flat.values()));
  for (int step = 0; step < 3; ++step) {
    const auto gradients = gradients_of(step, flat);
    adamw.step(gradients, 1e-2);
    optimizer.step(gradients, 1e-2);
    for (const FlatParameters::Slice& slice : flat.slices())
      if (is_hidden(slice.name) && slice.shape.size() == 2)
        muon_step(slice.view_of(by_muon), slice.view_of(gradients), slice.view_of(momentum), 1e-2,
                  {.weight_decay = kDecayed.weight_decay});
  }
  for (const FlatParameters::Slice& slice : flat.slices()) {
    const bool uses_muon = is_hidden(slice.name) && slice.shape.size() == 2;
    EXPECT_TRUE(
        torch::equal(slice.view_of(flat.values()), slice.view_of(uses_muon ? by_muon : by_adamw)))
        << slice.name;
    EXPECT_EQ(
        slice.view_of(joined(optimizer.second_moment(), flat)).count_nonzero().item<int64_t>(),
        uses_muon ? 0 : slice.size)
        << slice.name;
  }
}

TEST(Optimizer, LeavesParametersWithoutWeightDecayUndecayed) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    SmallModule decayed_module, module;
    const FlatParameters decayed_flat(decayed_module), flat(module);
    const auto start = flat.values().clone();
    Optimizer decayed(decayed_flat, kind, kDecayed, is_hidden, all_of(flat.values()));
    Optimizer optimizer(flat, kind, kDecayed, is_hidden, all_of(flat.values()), has_weight_decay);
    const auto gradients = torch::zeros_like(start);
    decayed.step(gradients, 1e-2);
    optimizer.step(gradients, 1e-2);
    for (const FlatParameters::Slice& slice : flat.slices()) {
      const auto& expected = has_weight_decay(slice.name) ? decayed_flat.values() : start;
      EXPECT_TRUE(torch::equal(slice.view_of(flat.values()), slice.view_of(expected)))
          << slice.name;
    }
    EXPECT_FALSE(torch::equal(flat.values(), start));
  }
}

TEST(Optimizer, UpdatesParametersWithoutWeightDecayLikeAdamWWithNone) {
  SmallModule module;
  const FlatParameters flat(module);
  const auto weights = flat.values().clone();
  AdamWOptions undecayed = kDecayed;
  undecayed.weight_decay = 0;
  AdamW adamw(weights, undecayed, all_of(weights));
  Optimizer optimizer(flat, OptimizerKind::kAdamW, kDecayed, is_hidden, all_of(flat.values()),
                      has_weight_decay);
  for (int step = 0; step < 3; ++step) {
    adamw.step(gradients_of(step, flat), 1e-2);
    optimizer.step(gradients_of(step, flat), 1e-2);
  }
  EXPECT_TRUE(torch::allclose(flat.slices()[2].view_of(flat.values()),
                              flat.slices()[2].view_of(weights), 1e-6, 1e-7));
  EXPECT_TRUE(torch::allclose(joined(optimizer.first_moment(), flat),
                              adamw.first_moment().parts()[0], 1e-6, 1e-7));
}

TEST(Optimizer, ResumesBitForBitFromItsSavedState) {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kMuon}) {
    SmallModule uninterrupted_module, module;
    const FlatParameters uninterrupted_flat(uninterrupted_module), flat(module);
    Optimizer uninterrupted(uninterrupted_flat, kind, kDecayed, is_hidden,
                            all_of(uninterrupted_flat.values()), has_weight_decay);
    for (int step = 0; step < 6; ++step) uninterrupted.step(gradients_of(step, flat), 1e-2);

    Optimizer before(flat, kind, kDecayed, is_hidden, all_of(flat.values()), has_weight_decay);
    for (int step = 0; step < 3; ++step) before.step(gradients_of(step, flat), 1e-2);
    Optimizer after(flat, kind, kDecayed, is_hidden, all_of(flat.values()), has_weight_decay);
    const auto first = joined(before.first_moment(), flat);
    for (FlatState* state : after.first_moment()) state->assign(first);
    const auto second = joined(before.second_moment(), flat);
    for (FlatState* state : after.second_moment()) state->assign(second);
    after.set_updates(before.updates());
    for (int step = 3; step < 6; ++step) after.step(gradients_of(step, flat), 1e-2);
    EXPECT_TRUE(torch::equal(flat.values(), uninterrupted_flat.values()));
  }
}

}  // namespace
}  // namespace dalle
