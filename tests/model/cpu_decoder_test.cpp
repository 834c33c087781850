#include "model/cpu_decoder.h"

#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "counted_new.h"

namespace dalle::cpu_decoder_test {  // test sources are joined, and others use the same names
namespace {

constexpr int64_t kTextVocab = 11, kImageVocab = 37;

struct Shape {
  SequenceLayout layout;
  int64_t width, heads;
};
constexpr Shape kShapes[] = {
    {{.text_length = 6, .grid_height = 4, .grid_width = 4}, 16, 2},
    {{.text_length = 9, .grid_height = 3, .grid_width = 7}, 33, 3},
    {{.text_length = 40, .grid_height = 6, .grid_width = 5}, 128, 2},
    {{.text_length = 2, .grid_height = 1, .grid_width = 20}, 24, 1},
};

struct Options {
  std::vector<AttentionKind> attention = {AttentionKind::kRow, AttentionKind::kColumn};
  Activation activation = Activation::kGelu;
  Precision precision = Precision::kFloat32;
};

DalleModel model_of(const Shape& shape, const Options& options = {}) {
  TransformerConfig config;
  config.depth = 3;
  config.heads = shape.heads;
  config.width = shape.width;
  config.text_length = shape.layout.text_length;
  config.attention = options.attention;
  config.activation = options.activation;
  config.conv_kernel = 3;
  config.init = TransformerInit::kNormal002;
  DalleModel model(config, shape.layout, kTextVocab, kImageVocab, options.precision);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(3);
  model->initialize(generator);
  const torch::NoGradGuard no_grad;  // far from the linear regime, with biases
  const double scale = 80 / std::sqrt(static_cast<double>(shape.width));
  for (auto& parameter : model->parameters()) {
    if (parameter.dim() == 2) parameter *= scale;
    if (parameter.dim() == 1) parameter += torch::randn(parameter.sizes(), generator) * 0.3;
  }
  model->eval();
  return model;
}

struct Sequences {
  at::Tensor captions;  // [n, text_length - 1]
  at::Tensor codes;     // [n, image_length]
};

Sequences sequences_of(const SequenceLayout& layout, int64_t count) {
  torch::manual_seed(5);
  Sequences sequences{torch::randint(0, kTextVocab, {count, layout.max_caption_tokens()}),
                      torch::randint(0, kImageVocab, {count, layout.image_length()})};
  for (int64_t i = 0; i < count; ++i)  // padding of every length
    sequences.captions[i]
        .slice(0, layout.max_caption_tokens() - i % layout.text_length)
        .fill_(kPadToken);
  return sequences;
}

std::span<const int64_t> row(const at::Tensor& tensor, int64_t i) {
  return {tensor.const_data_ptr<int64_t>() + i * tensor.size(1),
          static_cast<size_t>(tensor.size(1))};
}

DecodeRow row_at(const Sequences& sequences, int64_t image, int64_t position) {
  return {.caption = image,
          .image = image,
          .position = position,
          .previous = position == 0 ? 0 : row(sequences.codes, image)[position - 1]};
}

at::Tensor logits_of(const CpuDecoder& decoder, int64_t row) {
  const auto logits = decoder.logits(row);
  return torch::tensor(at::ArrayRef<float>(logits.data(), logits.size()));
}

/// The logits at all positions of each image, one step for each position.
at::Tensor decode_all(CpuDecoder& decoder, const Sequences& sequences) {
  const int64_t images = sequences.codes.size(0), length = sequences.codes.size(1);
  auto result = torch::empty({images, length, kImageVocab});
  for (int64_t i = 0; i < images; ++i) decoder.read_caption(i, row(sequences.captions, i));
  for (int64_t position = 0; position < length; ++position) {
    std::vector<DecodeRow> rows;
    for (int64_t i = 0; i < images; ++i) rows.push_back(row_at(sequences, i, position));
    decoder.step(rows);
    for (int64_t i = 0; i < images; ++i) result[i][position] = logits_of(decoder, i);
  }
  return result;
}

at::Tensor full_logits(DalleModel& model, const Sequences& sequences) {
  const torch::NoGradGuard no_grad;
  return model->hidden_states(sequences.captions, sequences.codes)
      .slice(1, model->layout().text_length)
      .matmul(model->named_parameters()["image_head.weight"].t());
}

class CpuDecoderOf : public ::testing::TestWithParam<const DecodeKernels*> {};

TEST_P(CpuDecoderOf, GivesTheLogitsOfTheModel) {
  for (const Shape& shape : kShapes)
    for (const auto& [kind, name] : enum_names(AttentionKind{}))
      for (const auto& [activation, activation_name] : enum_names(Activation{})) {
        auto model = model_of(shape, {.attention = {kind}, .activation = activation});
        const Sequences sequences = sequences_of(shape.layout, 3);
        CpuDecoder decoder(model, {.captions = 3, .images = 3, .rows = 4}, *GetParam());
        const auto found = decode_all(decoder, sequences);
        const auto expected = full_logits(model, sequences);
        const double spread = expected.std().item<double>();
        EXPECT_LT((found - expected).abs().max().item<double>(), 1e-4 * spread)
            << name << " " << activation_name << " of width " << shape.width;
      }
}

TEST_P(CpuDecoderOf, IsAsExactAsTheModelUnderBfloat16) {
  for (const Shape& shape : kShapes) {
    auto model = model_of(shape, {.precision = Precision::kBfloat16});
    const Sequences sequences = sequences_of(shape.layout, 2);
    CpuDecoder decoder(model, {.captions = 2, .images = 2, .rows = 4}, *GetParam());
    const auto found = decode_all(decoder, sequences);
    // The same rounded weights in float32 are what both approximate.
    auto exact = model_of(shape);
    {
      const torch::NoGradGuard no_grad;
      for (const auto& item : exact->named_parameters())
        if (item.key().starts_with("block_") && item.key().ends_with(".weight"))
          item.value().copy_(item.value().to(at::kBFloat16));
    }
    const auto expected = full_logits(exact, sequences);
    const double models = (full_logits(model, sequences) - expected).abs().mean().item<double>();
    EXPECT_LT((found - expected).abs().mean().item<double>(), 0.1 * models) << shape.width;
  }
}

TEST_P(CpuDecoderOf, GivesARowTheSameBitsAloneAndAmongOthers) {
  for (const Shape& shape : kShapes)
    for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
      auto model = model_of(shape, {.precision = precision});
      const Sequences sequences = sequences_of(shape.layout, 32);
      CpuDecoder together(model, {.captions = 32, .images = 32, .rows = 32}, *GetParam());
      const auto all = decode_all(together, sequences);
      for (const int64_t image : {0, 5, 31}) {
        const Sequences one{sequences.captions.slice(0, image, image + 1),
                            sequences.codes.slice(0, image, image + 1)};
        CpuDecoder alone(model, {.captions = 1, .images = 1, .rows = 1}, *GetParam());
        EXPECT_TRUE(torch::equal(decode_all(alone, one)[0], all[image]))
            << shape.width << ", image " << image;
      }
    }
}

TEST_P(CpuDecoderOf, GivesARowTheSameBitsForAnyNumberOfThreads) {
  // So large that products and attention are divided among threads.
  const Shape shape{{.text_length = 40, .grid_height = 16, .grid_width = 16}, 128, 2};
  const int threads = at::get_num_threads();
  auto model = model_of(shape);
  const Sequences sequences = sequences_of(shape.layout, 32);
  at::Tensor expected;
  for (const int set : {1, 2, 3}) {
    at::set_num_threads(set);
    CpuDecoder decoder(model, {.captions = 32, .images = 32, .rows = 32}, *GetParam());
    const at::Tensor found = decode_all(decoder, sequences);
    if (!expected.defined()) expected = found;
    EXPECT_TRUE(torch::equal(found, expected)) << set << " threads";
  }
  at::set_num_threads(threads);
}

TEST_P(CpuDecoderOf, EvaluatesSeveralPositionsInOneStepAndOverwritesWrongOnes) {
  for (const Shape& shape : kShapes)
    for (const auto& [kind, name] : enum_names(AttentionKind{})) {
      auto model = model_of(shape, {.attention = {kind}});
      const Sequences sequences = sequences_of(shape.layout, 2);
      CpuDecoder decoder(model, {.captions = 2, .images = 2, .rows = 32}, *GetParam());
      const auto one_by_one = decode_all(decoder, sequences);
      CpuDecoder windows(model, {.captions = 2, .images = 2, .rows = 32}, *GetParam());
      for (int64_t i = 0; i < 2; ++i) windows.read_caption(i, row(sequences.captions, i));
      for (int64_t first = 0; first < shape.layout.image_length(); first += 3) {
        const int64_t end = std::min(first + 5, shape.layout.image_length());
        std::vector<DecodeRow> rows;
        for (int64_t p = first; p < end; ++p)
          for (int64_t image : {1, 0}) {
            rows.push_back(row_at(sequences, image, p));
            if (p >= first + 3) rows.back().previous = 1;  // a wrong guess beyond the window
          }
        windows.step(rows);
        for (int64_t p = first; p < std::min(first + 3, end); ++p)
          for (int64_t image : {1, 0})
            EXPECT_TRUE(
                torch::equal(logits_of(windows, 2 * (p - first) + 1 - image), one_by_one[image][p]))
                << name << " " << p;
      }
    }
}

TEST_P(CpuDecoderOf, SharesACaptionBetweenImagesAndReusesSlots) {
  auto model = model_of(kShapes[0]);
  Sequences sequences = sequences_of(kShapes[0].layout, 4);
  CpuDecoder decoder(model, {.captions = 1, .images = 2, .rows = 2}, *GetParam());
  for (int64_t c = 0; c < 4; ++c) {
    const Sequences pair{sequences.captions.slice(0, c, c + 1).repeat({2, 1}),
                         sequences.codes.slice(0, 0, 2)};
    const auto expected = full_logits(model, pair);
    decoder.read_caption(0, row(pair.captions, 0));
    for (int64_t p = 0; p < 16; ++p) {
      std::vector<DecodeRow> rows{row_at(pair, 0, p), row_at(pair, 1, p)};
      rows[1].caption = 0;
      decoder.step(rows);
      for (int64_t i = 0; i < 2; ++i)
        EXPECT_TRUE(torch::allclose(logits_of(decoder, i), expected[i][p], 1e-4, 1e-4));
    }
  }
}

TEST_P(CpuDecoderOf, AllocatesNothingInAStepOfUsedSlots) {
  auto model = model_of(kShapes[2]);
  const Sequences sequences = sequences_of(kShapes[2].layout, 8);
  CpuDecoder decoder(model, {.captions = 8, .images = 8, .rows = 8}, *GetParam());
  decode_all(decoder, sequences);
  std::vector<DecodeRow> rows;
  for (int64_t i = 0; i < 8; ++i) rows.push_back(row_at(sequences, i, i));
  decoder.step(rows);
  const int64_t before = allocations;
  decoder.read_caption(3, row(sequences.captions, 2));
  decoder.step(rows);
  decoder.step(std::span(rows).first(1));
  EXPECT_EQ(allocations - before, 0);
  EXPECT_GT(before, 0);
}

INSTANTIATE_TEST_SUITE_P(Kernels, CpuDecoderOf,
                         ::testing::ValuesIn(supported_decode_kernels().begin(),
                                             supported_decode_kernels().end()),
                         [](const auto& kernels) { return std::string(kernels.param->name); });

TEST(CpuDecoder, CountsTheBytesOfWeightsThatAStepReads) {
  const Shape& shape = kShapes[2];  // its sizes are multiples of the panel width, but for the head
  const int64_t block = 12 * 128 * 128, head = 64 * 128;
  for (const auto& [precision, name] : enum_names(Precision{})) {
    auto model = model_of(shape, {.precision = precision});
    const CpuDecoder decoder(model, {});
    EXPECT_EQ(decoder.weight_bytes(),
              3 * block * (precision == Precision::kBfloat16 ? 2 : 4) + 4 * head)
        << name;
  }
}

}  // namespace
}  // namespace dalle::cpu_decoder_test
