#include "sample/token_sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace dalle {

void TokenSampler::use(const SamplingConfig& sampling) {
  DALLE_CHECK(sampling.temperature >= 0 && sampling.top_k >= 0 && sampling.top_p >= 0);
  sampling_ = sampling;
}

std::span<const double> TokenSampler::weights(std::span<const float> logits) {
  DALLE_CHECK(!logits.empty());
  if (!std::ranges::all_of(logits, [](float logit) { return std::isfinite(logit); }))
    throw Error("{}", kNonFiniteLogits);
  const auto most_likely = std::ranges::max_element(logits);
  if (sampling_.temperature == 0) {
    weights_.assign(logits.size(), 0.0);
    weights_[static_cast<size_t>(most_likely - logits.begin())] = 1;
    return weights_;
  }
  weights_.resize(logits.size());
  // Relative to the most likely token, so that division by a small temperature may give minus
  // infinity but never NaN.
  const double largest = *most_likely;
  for (size_t token = 0; token < logits.size(); ++token)
    weights_[token] = (logits[token] - largest) / sampling_.temperature;
  if (sampling_.top_k > 0 && sampling_.top_k < static_cast<int64_t>(logits.size())) keep_top_k();
  for (double& weight : weights_) weight = std::exp(weight);
  if (sampling_.top_p < 1) keep_top_p();
  return weights_;
}

/// At this point weights_ contains scores: the weights before exponentiation.
void TokenSampler::keep_top_k() {
  selected_ = weights_;
  const auto last = selected_.begin() + sampling_.top_k - 1;
  std::ranges::nth_element(selected_, last, std::greater());
  const double least = *last;
  int64_t ties = sampling_.top_k - std::ranges::count_if(selected_.begin(), last,
                                                         [&](double s) { return s > least; });
  for (double& score : weights_)
    if (score < least || (score == least && ties-- <= 0))
      score = -std::numeric_limits<double>::infinity();
}

void TokenSampler::keep_top_p() {
  const double enough = sampling_.top_p * std::accumulate(weights_.begin(), weights_.end(), 0.0);
  const auto less_likely = [this](int32_t a, int32_t b) {
    const double x = weights_[static_cast<size_t>(a)], y = weights_[static_cast<size_t>(b)];
    return x != y ? x < y : a > b;
  };
  order_.resize(weights_.size());
  std::iota(order_.begin(), order_.end(), 0);
  std::ranges::make_heap(order_, less_likely);
  auto end = order_.end();  // of the tokens in the heap; those that are kept come after it
  double total = 0;
  do {
    std::ranges::pop_heap(order_.begin(), end--, less_likely);
    total += weights_[static_cast<size_t>(*end)];
  } while (total < enough && end != order_.begin());
  for (const int32_t token : std::span(order_.begin(), end))
    weights_[static_cast<size_t>(token)] = 0;
}

std::span<const float> TokenSampler::guided(std::span<const float> conditional,
                                            std::span<const float> unconditional) {
  DALLE_CHECK(conditional.size() == unconditional.size());
  guided_.resize(conditional.size());
  for (size_t token = 0; token < conditional.size(); ++token) {
    const double base = unconditional[token];
    guided_[token] = static_cast<float>(base + sampling_.guidance * (conditional[token] - base));
  }
  return guided_;
}

int64_t TokenSampler::sample(std::span<const float> logits, double uniform) {
  return invert_cumulative(weights(logits), uniform);
}

int64_t invert_cumulative(std::span<const double> weights, double uniform) {
  const double target = uniform * std::accumulate(weights.begin(), weights.end(), 0.0);
  double cumulative = 0;
  int64_t sampled = -1;  // the last one that is positive if rounding leaves a gap at the end
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    sampled = static_cast<int64_t>(i);
    cumulative += weights[i];
    if (target < cumulative) break;
  }
  DALLE_CHECK(sampled >= 0);
  return sampled;
}

}  // namespace dalle
