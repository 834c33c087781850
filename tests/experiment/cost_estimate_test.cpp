#include "experiment/config/cost_estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/dalle_model.h"
#include "model/discrete_vae.h"
#include "nn/attention_mask.h"

namespace dalle {
namespace {

using testing::HasSubstr;

constexpr int64_t kTextVocab = 16384;

ExperimentConfig with_dvae(int64_t groups, int64_t blocks, int64_t hidden, int64_t vocab_size,
                           int64_t codebook_width) {
  ExperimentConfig config;
  config.dvae.model.groups = groups;
  config.dvae.model.blocks_per_group = blocks;
  config.dvae.model.hidden = hidden;
  config.dvae.model.vocab_size = vocab_size;
  config.dvae.model.codebook_width = codebook_width;
  return config;
}

struct DvaeCount {
  ExperimentConfig config;
  int64_t encoder;
  int64_t decoder;
};

TEST(CostEstimate, CountsTheParametersOfPublishedAndSmallDvaes) {
  const DvaeCount counts[] = {{{}, 53'786'240, 43'829'766},
                              {with_dvae(4, 1, 64, 512, 8), 1'321'744, 1'402'334},
                              {with_dvae(4, 2, 64, 512, 32), 2'585'504, 2'693'766},
                              {with_dvae(4, 2, 128, 1024, 64), 10'313'536, 10'765'574}};
  for (const auto& [config, encoder, decoder] : counts) {
    const DvaeCost cost = estimate_dvae_cost(config);
    EXPECT_EQ(cost.encoder_parameters, encoder);
    EXPECT_EQ(cost.decoder_parameters, decoder);
    EXPECT_EQ(cost.parameters(), encoder + decoder);
  }
}

TEST(CostEstimate, CountsTheOperationsOfTheDvae) {
  const DvaeCost cost = estimate_dvae_cost({});
  EXPECT_NEAR(cost.encoder_flops, 272e9, 0.5e9);
  EXPECT_NEAR(cost.decoder_flops, 308e9, 0.6e9);
  EXPECT_DOUBLE_EQ(cost.training_flops, 3 * (cost.encoder_flops + cost.decoder_flops));
}

TEST(CostEstimate, CountsASmallDvaeByHand) {
  // One group of one block at full resolution: nothing shrinks.
  ExperimentConfig config = with_dvae(1, 1, 8, 10, 4);
  config.data.image_size = 32;
  const DvaeCost cost = estimate_dvae_cost(config);
  const int64_t encoder_weights = 3 * 8 * 49 + (8 * 2 * 9 + 2 * 2 * 9 + 2 * 2 * 9 + 2 * 8) + 8 * 10;
  const int64_t decoder_weights =
      10 * 4 + (4 * 8 + 4 * 2 + 2 * 2 * 9 + 2 * 2 * 9 + 2 * 8 * 9) + 8 * 6;
  EXPECT_EQ(cost.encoder_parameters, encoder_weights + 8 + (2 + 2 + 2 + 8) + 10);
  EXPECT_EQ(cost.decoder_parameters, decoder_weights + 4 + (8 + 2 + 2 + 2 + 8) + 6);
  EXPECT_DOUBLE_EQ(cost.encoder_flops, 2.0 * 32 * 32 * static_cast<double>(encoder_weights));
  EXPECT_DOUBLE_EQ(cost.decoder_flops, 2.0 * 32 * 32 * static_cast<double>(decoder_weights));
}

TEST(CostEstimate, CountsTheProductsWithTheCodebookOfDistanceLogits) {
  ExperimentConfig config = with_dvae(1, 1, 8, 10, 4);
  config.data.image_size = 32;
  const DvaeCost linear = estimate_dvae_cost(config);
  config.dvae.model.logits = LogitKind::kDistance;
  const DvaeCost distance = estimate_dvae_cost(config);
  EXPECT_EQ(linear.encoder_parameters - distance.encoder_parameters, (8 + 1) * (10 - 4));
  EXPECT_DOUBLE_EQ(distance.encoder_flops - linear.encoder_flops,
                   2.0 * 32 * 32 * (8 * (4 - 10) + 4 * 10));
}

ExperimentConfig experiment_of(int64_t depth, int64_t width) {
  ExperimentConfig config;
  config.dalle.model.depth = depth;
  config.dalle.model.width = width;
  config.dalle.model.heads = width / 64;
  return config;
}

struct DalleSize {
  int64_t depth;
  int64_t width;
  int64_t parameters;
  double training_flops;  ///< 0: not known
};

TEST(CostEstimate, AgreesWithKnownSizesOfTheTransformer) {
  const DalleSize sizes[] = {{8, 256, 19'049'472, 0},
                             {12, 512, 63'291'392, 0},
                             {24, 1024, 353'234'944, 2.49e12},
                             {64, 3968, 12'292'816'384, 94.1e12}};
  for (const DalleSize& size : sizes) {
    const DalleCost cost = estimate_dalle_cost(experiment_of(size.depth, size.width), kTextVocab);
    EXPECT_EQ(cost.parameters(), size.parameters) << size.width;
    EXPECT_DOUBLE_EQ(cost.training_flops, 3 * cost.forward_flops);
    if (size.training_flops == 0) continue;
    EXPECT_NEAR(cost.training_flops / size.training_flops, 1, 0.002) << size.width;
  }
}

TEST(CostEstimate, CountsTheParametersThatTheModelsHave) {
  const ExperimentConfig config = experiment_of(8, 256);
  DalleModel model(config.dalle.model, config.layout(), kTextVocab, config.dvae.model.vocab_size);
  int64_t parameters = 0;
  for (const at::Tensor& parameter : model->parameters()) parameters += parameter.numel();
  EXPECT_EQ(parameters, 19'049'472);
  EXPECT_EQ(estimate_dalle_cost(config, kTextVocab).parameters(), parameters);
}

TEST(CostEstimate, CountsTheParametersThatTheDvaeHas) {
  const ExperimentConfig config = with_dvae(3, 2, 8, 30, 5);
  int64_t parameters = 0;
  for (const at::Tensor& parameter : DiscreteVae(config.dvae.model)->parameters())
    parameters += parameter.numel();
  EXPECT_EQ(estimate_dvae_cost(config).parameters(), parameters);
}

TEST(CostEstimate, AgreesWithTheRoundedFiguresOfTheSizesBetween) {
  const std::pair<DalleSize, double> sizes[] = {{{8, 512, 51'000'000, 0.25e12}, 0.01},
                                                {{12, 768, 123'000'000, 0.75e12}, 0.01},
                                                {{24, 2048, 1'310'000'000, 9.62e12}, 0.005}};
  for (const auto& [size, tolerance] : sizes) {
    const DalleCost cost = estimate_dalle_cost(experiment_of(size.depth, size.width), kTextVocab);
    const auto parameters = static_cast<double>(cost.parameters());
    EXPECT_NEAR(parameters / static_cast<double>(size.parameters), 1, tolerance) << size.width;
    EXPECT_NEAR(cost.training_flops / size.training_flops, 1, tolerance) << size.width;
  }
}

TEST(CostEstimate, CountsTheTransformersParameters) {
  ExperimentConfig config = experiment_of(2, 64);
  config.dalle.model.text_length = 16;
  config.data.image_size = 64;  // an 8x8 grid
  config.dvae.model.vocab_size = 100;
  DalleCost cost = estimate_dalle_cost(config, 300);
  EXPECT_EQ(cost.embeddings, 64 * (300 + 100 + 16 + 16 + 1 + 1 + 8 + 8));
  EXPECT_EQ(cost.block_parameters, 2 * (2 * 64 + (64 * 192 + 192) + (64 * 64 + 64) + 2 * 64 +
                                        (64 * 256 + 256) + (256 * 64 + 64)));
  EXPECT_EQ(cost.head_parameters, 2 * 64 + 64 * 300 + 64 * 100);
  const double flops = cost.forward_flops;

  config.dalle.model.text_loss_includes_padding = true;  // a class for each position's pad
  cost = estimate_dalle_cost(config, 300);
  EXPECT_EQ(cost.head_parameters, 2 * 64 + 64 * (300 + 16) + 64 * 100);
  EXPECT_DOUBLE_EQ(cost.forward_flops - flops, 2.0 * 64 * 16 * 16);
}

TEST(CostEstimate, CountsTheAttentionPairsOfThePaper) {
  const std::pair<AttentionKind, int64_t> kinds[] = {{AttentionKind::kRow, 328'304},
                                                     {AttentionKind::kColumn, 311'936},
                                                     {AttentionKind::kConv, 356'384},
                                                     {AttentionKind::kDense, 819'840}};
  for (const auto& [kind, pairs] : kinds) {
    ExperimentConfig config = experiment_of(3, 64);
    config.dalle.model.attention = {kind};
    config.dalle.model.last_attention = kind;
    EXPECT_EQ(estimate_dalle_cost(config, kTextVocab).attention_pairs, 3 * pairs)
        << to_string(kind);
  }
  EXPECT_EQ(estimate_dalle_cost({}, kTextVocab).attention_pairs,
            47 * 328'304 + 16 * 311'936 + 356'384);
}

TEST(CostEstimate, CountsThePairsThatTheMasksAllow) {
  ExperimentConfig config = experiment_of(4, 64);
  config.dalle.model.text_length = 6;
  config.dalle.model.attention = {AttentionKind::kRow, AttentionKind::kColumn,
                                  AttentionKind::kDense};
  config.dalle.model.conv_kernel = 3;
  config.data.image_size = 32;  // a 4x4 grid
  int64_t pairs = 0;
  for (int64_t layer = 0; layer < 4; ++layer)
    pairs += attention_mask(config.dalle.model.attention_of_layer(layer), config.layout(), 3)
                 .sum()
                 .item<int64_t>();
  EXPECT_EQ(estimate_dalle_cost(config, 100).attention_pairs, pairs);
}

TEST(CostEstimate, NeedsTwentyBytesAParameterBesideActivations) {
  ExperimentConfig config = experiment_of(8, 512);
  config.dalle.train.micro_batch_size = 4;
  const DalleCost plain = estimate_dalle_cost(config, kTextVocab);
  EXPECT_EQ(plain.memory.resident() - plain.memory.frozen_weights, 20 * plain.parameters());
  EXPECT_EQ(plain.memory.training(), plain.memory.resident() + plain.memory.activations);
  EXPECT_EQ(plain.memory.total(), plain.memory.training());
  EXPECT_EQ(plain.memory.frozen_weights, 4 * 97'616'006);
  EXPECT_EQ(plain.memory.checkpoint(), 16 * plain.parameters());
  EXPECT_EQ(plain.micro_batch_size, 4);

  config.dalle.train.precision = Precision::kBfloat16;
  const DalleCost half = estimate_dalle_cost(config, kTextVocab);
  EXPECT_EQ(half.memory.compute_weights, 2 * (half.block_parameters + 512 * kTextVocab));
  EXPECT_LT(half.memory.activations, plain.memory.activations);
  EXPECT_EQ(half.memory.checkpoint(), plain.memory.checkpoint());

  const DvaeCost dvae = estimate_dvae_cost(config);
  EXPECT_EQ(dvae.memory.total() - dvae.memory.activations, 20 * 97'616'006);
}

TEST(CostEstimate, ShardsMomentsAndEmaBetweenRanks) {
  ExperimentConfig config = experiment_of(8, 512);
  config.dalle.train.batch_size = 64;
  const DalleCost alone = estimate_dalle_cost(config, kTextVocab);
  const DalleCost whole = estimate_dalle_cost(config, kTextVocab, 8);
  EXPECT_EQ(whole.memory.moments, alone.memory.moments);
  EXPECT_EQ(alone.micro_batch_size, 64);
  EXPECT_EQ(whole.micro_batch_size, 8);
  config.distributed.shard_optimizer = true;
  const DalleCost shared = estimate_dalle_cost(config, kTextVocab, 8);
  EXPECT_EQ(shared.memory.moments, alone.memory.moments / 8);
  EXPECT_EQ(shared.memory.ema, alone.memory.ema / 8);
  EXPECT_EQ(shared.memory.weights, alone.memory.weights);
  EXPECT_EQ(shared.memory.checkpoint(), alone.memory.checkpoint());
  EXPECT_EQ(estimate_dvae_cost(config, 8).memory.moments,
            estimate_dvae_cost(config).memory.moments / 8);
}

TEST(CostEstimate, OfTheLargestModelOnManyGpusIsTwoCopiesOfItsWeightsAndAShard) {
  ExperimentConfig config = experiment_of(64, 3968);  // configs/paper-12b.yaml
  config.dalle.model.recompute = true;
  config.dalle.train.micro_batch_size = 1;
  config.dalle.train.precision = Precision::kBfloat16;
  config.distributed.shard_optimizer = true;
  constexpr int64_t kParameters = 12'292'816'384, kBlock = 12 * 3968 * 3968 + 13 * 3968;
  for (const int64_t ranks : {8, 64, 1024}) {
    const MemoryEstimate memory = estimate_dalle_cost(config, kTextVocab, ranks).memory;
    EXPECT_EQ(memory.weights + memory.gradients, 8 * kParameters);
    EXPECT_EQ(memory.moments + memory.ema, 12 * kParameters / ranks) << ranks;
    EXPECT_EQ(memory.resident(), 8 * kParameters + 12 * kParameters / ranks + 4 * 97'616'006);
    EXPECT_EQ(memory.compute_weights, 2 * kBlock);  // one layer at a time
    // Eight buckets of 25 MB, and what a rank receives of them.
    EXPECT_EQ(memory.sent_copies, 200'000'000 + 4 * (50'000'000 / ranks)) << ranks;
    EXPECT_EQ(memory.partial_sums, 0);
    // On a CPU: float32 keys and values of one image, packed blocks, and the image head.
    EXPECT_EQ(memory.sampling, int64_t{64} * (2 * 1280 * 3968 * 4 + 2 * kBlock) + 4 * 8192 * 3968);
    EXPECT_EQ(memory.saving, 4 * kParameters);
    EXPECT_EQ(memory.total(), memory.resident() + memory.sampling);
    EXPECT_GT(memory.total(), memory.training());
  }
  const MemoryEstimate memory = estimate_dalle_cost(config, kTextVocab, 64).memory;
  EXPECT_LT(memory.total(), int64_t{139} << 30);  // an H200's
}

TEST(CostEstimate, DoublesTheKeysAndValuesOfSampleImagesWithGuidance) {
  ExperimentConfig config = experiment_of(1, 64);  // at most 32 images at once
  const int64_t plain = estimate_dalle_cost(config, kTextVocab).memory.sampling;
  config.sample.guidance = 3;
  EXPECT_EQ(estimate_dalle_cost(config, kTextVocab).memory.sampling - plain,
            (1 + 1) * 32 * 2 * config.layout().length() * 64 * 4);  // on a GPU, with a layer's copy
}

TEST(CostEstimate, CountsASumForEachLevelOfTheTreeOfBitwiseTraining) {
  ExperimentConfig config = experiment_of(8, 512);
  config.dalle.train.batch_size = 64;
  config.dalle.train.micro_batch_size = 2;
  const auto sums = [&](int64_t ranks) {
    const MemoryEstimate memory = estimate_dalle_cost(config, kTextVocab, ranks).memory;
    EXPECT_EQ(memory.partial_sums % memory.gradients, 0);
    return memory.partial_sums / memory.gradients;
  };
  EXPECT_EQ(sums(1), 0);
  config.distributed.bitwise = true;
  EXPECT_EQ(sums(1), 6);  // of 1, 2, 4, 8, 16 and 32 micro-batches
  EXPECT_EQ(sums(4), 4);
  EXPECT_EQ(sums(32), 1);
}

TEST(CostEstimate, CountsTheCopiesInWhichGradientsTravel) {
  ExperimentConfig config = experiment_of(8, 512);
  const auto copies = [&](int64_t ranks) {
    return estimate_dalle_cost(config, kTextVocab, ranks).memory.sent_copies;
  };
  EXPECT_EQ(copies(4), 0);  // in place
  config.distributed.reduce_dtype = Precision::kBfloat16;
  EXPECT_EQ(copies(1), 0);
  EXPECT_EQ(copies(4), 8 * 12'500'000);
  config.distributed.shard_optimizer = true;
  EXPECT_EQ(copies(4), 8 * 12'500'000 + 2 * 12'500'000);
  config.distributed.bucket_mb = 1024;  // more than there is
  EXPECT_EQ(copies(4), 2 * estimate_dalle_cost(config, kTextVocab).parameters() * 5 / 4);
}

TEST(CostEstimate, SharesTheCopyOfASaveBetweenUpToFourRanks) {
  const auto saving = [](int64_t ranks) {
    return estimate_dalle_cost(experiment_of(8, 512), kTextVocab, ranks).memory.saving;
  };
  const MemoryEstimate alone = estimate_dalle_cost(experiment_of(8, 512), kTextVocab).memory;
  EXPECT_EQ(saving(1), alone.checkpoint());
  EXPECT_EQ(saving(2), 2 * alone.weights);
  EXPECT_EQ(saving(3), 2 * alone.weights);
  EXPECT_EQ(saving(4), alone.weights);
  EXPECT_EQ(saving(64), alone.weights);
}

TEST(CostEstimate, SavesActivationsByRecomputation) {
  ExperimentConfig config = experiment_of(24, 1024);
  config.dalle.train.micro_batch_size = 16;
  const DalleCost off = estimate_dalle_cost(config, kTextVocab);
  config.dalle.model.recompute = true;
  const DalleCost on = estimate_dalle_cost(config, kTextVocab);
  EXPECT_EQ(off.memory.total(), off.memory_without_recompute.total());
  EXPECT_EQ(on.memory.total(), on.memory_with_recompute.total());
  EXPECT_EQ(on.memory_without_recompute.total(), off.memory.total());
  EXPECT_LT(6 * on.memory.activations, off.memory.activations);
}

TEST(CostEstimate, CountsTheActivationsOfALayer) {
  // One layer more adds, a token: two float32 inputs of normalisations; inputs of the queries, keys
  // and values (1d), of the attention (3d), of its projection (1d), of the MLP (1d), of its
  // activation (4d) and of its second product (4d); and a log-sum a head.
  const auto bytes = [](int64_t depth, Precision precision) {
    ExperimentConfig config = experiment_of(depth, 256);
    config.dalle.train.micro_batch_size = 2;
    config.dalle.train.precision = precision;
    return estimate_dalle_cost(config, kTextVocab).memory.activations;
  };
  const int64_t tokens = 2 * 1280;
  EXPECT_EQ(bytes(5, Precision::kFloat32) - bytes(4, Precision::kFloat32),
            tokens * (4 * 2 * 256 + 4 * 14 * 256 + 4 * 4));
  EXPECT_EQ(bytes(5, Precision::kBfloat16) - bytes(4, Precision::kBfloat16),
            tokens * (4 * 2 * 256 + 2 * 14 * 256 + 4 * 4));
}

TEST(CostEstimate, GrowsWithTheMicroBatchAndDefaultsToTheWholeOne) {
  ExperimentConfig config = experiment_of(8, 512);
  config.dvae.train.micro_batch_size = 1;
  const int64_t one = estimate_dvae_cost(config).memory.activations;
  config.dvae.train.micro_batch_size = 8;
  EXPECT_EQ(estimate_dvae_cost(config).memory.activations, 8 * one);
  config.dvae.train.micro_batch_size = 0;
  config.dvae.train.batch_size = 32;
  EXPECT_EQ(estimate_dvae_cost(config).micro_batch_size, 32);
  EXPECT_EQ(estimate_dvae_cost(config).memory.activations, 32 * one);
}

TEST(CostEstimate, CountsImageTokensOnlyWhereTheyAreMadeOnTheFly) {
  ExperimentConfig config = experiment_of(8, 512);
  EXPECT_DOUBLE_EQ(estimate_dalle_cost(config, kTextVocab).token_flops,
                   estimate_dvae_cost(config).encoder_flops);
  config.dalle.crops_per_image = 1;
  config.dalle.cache_codes = true;
  EXPECT_EQ(estimate_dalle_cost(config, kTextVocab).token_flops, 0);
}

TEST(CostEstimate, ReportsThePapersModelWithoutMakingIt) {
  EXPECT_EQ(cost_report({}), R"(dVAE
  parameters: encoder                       53,786,240
    decoder                                 43,829,766
    total                                   97,616,006
  FLOPs per image: encoder forward        272.29 GFLOP
    decoder forward                       307.96 GFLOP
    training                                1.74 TFLOP
  memory: weights                            372.4 MiB
    gradients                                372.4 MiB
    optimizer moments                        744.8 MiB
    EMA of the weights                       372.4 MiB
    activations, micro-batch 512            898.38 GiB
    peak                                    900.19 GiB
  host memory while saving                    1.45 GiB
  checkpoint                                  1.45 GiB
transformer
  parameters: embeddings                    99,811,072
    blocks                              12,095,479,808
    heads                                   97,525,504
    total                               12,292,816,384
  attention pairs, all layers               20,777,648
  FLOPs per sequence: forward              31.39 TFLOP
    training                               94.16 TFLOP
    dVAE encoding of its image            272.29 GFLOP
  memory: weights                            45.79 GiB
    gradients                                45.79 GiB
    optimizer moments                        91.59 GiB
    EMA of the weights                       45.79 GiB
    frozen dVAE                              372.4 MiB
    activations, micro-batch 1024         19899.23 GiB
    or sample images (between steps)         47.60 GiB
    peak                                  20128.57 GiB
    peak with recompute                    1819.49 GiB
    peak without recompute                20128.57 GiB
  host memory while saving                  183.18 GiB
  checkpoint                                183.18 GiB
)");
}

TEST(CostEstimate, WritesSmallAmountsInSmallUnits) {
  ExperimentConfig config = with_dvae(2, 1, 4, 8, 4);
  config.data.image_size = 32;
  const std::string text = to_text(estimate_dvae_cost(config));
  EXPECT_THAT(text, HasSubstr(" MFLOP\n"));
  EXPECT_THAT(text, HasSubstr(" MiB\n"));
  EXPECT_THAT(text, testing::Not(HasSubstr("recompute")));
}

}  // namespace
}  // namespace dalle
