#include "nn/contrastive_loss.h"

#include <cmath>
#include <vector>

#include <gtest/gtest.h>
#include <torch/types.h>

#include "finite_differences.h"

namespace dalle {
namespace {

at::Tensor unit_rows(int64_t count, int64_t size) {
  const auto x = torch::randn({count, size}, torch::kDouble);
  return x / x.norm(2, 1, true);
}

/// The formula, written out for each pair.
double plain_loss(const at::Tensor& queries, const at::Tensor& candidates, double scale,
                  const std::vector<int64_t>& labels) {
  const int64_t count = queries.size(0);
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    std::vector<double> logits;
    double sum = 0;
    for (int64_t j = 0; j < count; ++j) {
      logits.push_back(scale * (queries[i] * candidates[j]).sum().item<double>());
      sum += std::exp(logits.back());
    }
    double loss = 0;
    int64_t partners = 0;
    for (size_t j = 0; j < logits.size(); ++j) {
      if (labels[static_cast<size_t>(i)] != labels[j]) continue;
      loss -= std::log(std::exp(logits[j]) / sum);
      ++partners;
    }
    total += loss / static_cast<double>(partners);
  }
  return total / static_cast<double>(count);
}

TEST(ContrastiveLoss, IsTheMeanOfBothCrossEntropies) {
  torch::manual_seed(1);
  const auto images = unit_rows(6, 4), texts = unit_rows(6, 4);
  const std::vector<int64_t> each = {0, 1, 2, 3, 4, 5}, repeated = {7, -3, 7, 5, -3, 7};
  for (const auto& labels : {each, repeated}) {
    const double to_text = plain_loss(images, texts, 5, labels);
    const double to_image = plain_loss(texts, images, 5, labels);
    const ContrastiveLoss loss =
        contrastive_loss(images, texts, torch::tensor(5.0, torch::kDouble), torch::tensor(labels));
    EXPECT_NEAR(loss.image_to_text.item<double>(), to_text, 1e-12);
    EXPECT_NEAR(loss.text_to_image.item<double>(), to_image, 1e-12);
    EXPECT_NEAR(loss.total.item<double>(), (to_text + to_image) / 2, 1e-12);
  }
}

TEST(ContrastiveLoss, WithoutLabelsEachSampleIsItsOnlyPartner) {
  torch::manual_seed(2);
  const auto images = unit_rows(5, 3), texts = unit_rows(5, 3), scale = torch::tensor(9.0);
  const double with_labels =
      contrastive_loss(images, texts, scale, torch::arange(5)).total.item<double>();
  EXPECT_NEAR(contrastive_loss(images, texts, scale).total.item<double>(), with_labels, 1e-12);
}

TEST(ContrastiveLoss, OfEqualEmbeddingsIsTheLogOfTheirNumber) {
  const auto same = torch::ones({8, 1}, torch::kDouble);
  EXPECT_NEAR(contrastive_loss(same, same, torch::tensor(14.0)).total.item<double>(), std::log(8.0),
              1e-12);
}

TEST(ContrastiveLoss, CannotBeLessThanTheEntropyOfItsTargets) {
  const auto embeddings = torch::tensor({{1., 0.}, {0., 1.}, {1., 0.}, {0., 1.}}, torch::kDouble);
  const auto labels = torch::tensor({0, 1, 0, 1});
  const auto loss = contrastive_loss(embeddings, embeddings, torch::tensor(100.0), labels);
  EXPECT_NEAR(loss.total.item<double>(), std::log(2.0), 1e-12);
}

TEST(ContrastiveLoss, GradientMatchesFiniteDifferences) {
  torch::manual_seed(3);
  const auto images = unit_rows(4, 3), texts = unit_rows(4, 3);
  const auto scale = torch::tensor(6.0, torch::kDouble), labels = torch::tensor({0, 1, 0, 2});
  const auto of_images = [&](const at::Tensor& x) {
    return contrastive_loss(x, texts, scale, labels).total;
  };
  const auto of_texts = [&](const at::Tensor& x) {
    return contrastive_loss(images, x, scale, labels).total;
  };
  const auto of_scale = [&](const at::Tensor& x) {
    return contrastive_loss(images, texts, x, labels).total;
  };
  EXPECT_LT(gradient_error(of_images, images), 1e-7);
  EXPECT_LT(gradient_error(of_texts, texts), 1e-7);
  EXPECT_LT(gradient_error(of_scale, scale), 1e-7);
}

}  // namespace
}  // namespace dalle
