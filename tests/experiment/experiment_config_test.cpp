#include "experiment/config/experiment_config.h"

#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/config/config_io.h"
#include "experiment/config/load_experiment.h"
#include "experiment/config_problems.h"
#include "temporary_directory.h"

namespace dalle {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ExperimentConfig, IsValidAtThePapersValuesWithAPath) {
  ExperimentConfig config;
  config.data.path = "data";
  EXPECT_THAT(validate(config), IsEmpty());
}

struct Conflict {
  std::string yaml;     ///< added to an experiment that is valid without it
  std::string problem;  ///< all that is wrong with it
};

class ExperimentConflict : public testing::TestWithParam<Conflict> {};

TEST_P(ExperimentConflict, IsReportedWhereItStands) {
  EXPECT_THAT(problems_of(GetParam().yaml, {"data.kind=shapes"}), ElementsAre(GetParam().problem));
}

INSTANTIATE_TEST_SUITE_P(
    Model, ExperimentConflict,
    testing::Values(
        Conflict{"data: {image_size: 100}",
                 "x.yaml:1:20: data.image_size: found 100, expected a multiple of 8, the "
                 "downsampling factor (dvae.model.groups is 4)"},
        Conflict{"dvae: {model: {hidden: 66}}",
                 "x.yaml:1:24: dvae.model.hidden: found 66, expected a multiple of 4"},
        Conflict{"dvae: {model: {post_gain: 0}}",
                 "x.yaml:1:27: dvae.model.post_gain: found 0, expected more than 0 or null"},
        Conflict{"dvae: {model: {bottleneck: fsq, vocab_size: 100}}",
                 "x.yaml:1:45: dvae.model.fsq_levels: found [], expected numbers whose product is "
                 "dvae.model.vocab_size, which is 100 (there are defaults for 64, 256, 512, 1024, "
                 "4096, 8192, 16384 and 65536)"},
        Conflict{"dvae: {model: {bottleneck: fsq, fsq_levels: [8, 6, 5], vocab_size: 256}}",
                 "x.yaml:1:45: dvae.model.fsq_levels: found [8, 6, 5], expected numbers whose "
                 "product is dvae.model.vocab_size, which is 256"},
        Conflict{"dvae: {model: {bottleneck: vq, fsq_levels: [8, 8], vocab_size: 64}}",
                 "x.yaml:1:44: dvae.model.fsq_levels: found [8, 8], expected [], since "
                 "dvae.model.bottleneck is vq"},
        Conflict{"dvae: {model: {bottleneck: fsq, vocab_size: 64, logits: distance}}",
                 "x.yaml:1:57: dvae.model.logits: found distance, expected linear, since "
                 "dvae.model.bottleneck is fsq"},
        Conflict{"dvae: {model: {vq: {update: ema}}}",
                 "x.yaml:1:29: dvae.model.vq.update: found ema, expected loss, since "
                 "dvae.model.bottleneck is gumbel"},
        Conflict{"dvae: {model: {bottleneck: vq, vq: {decay: 1}}}",
                 "x.yaml:1:44: dvae.model.vq.decay: found 1, expected less than 1"},
        Conflict{"dvae: {model: {bottleneck: vq}}\ndalle: {image_tokens: sample}",
                 "x.yaml:2:23: dalle.image_tokens: found sample, expected argmax, since "
                 "dvae.model.bottleneck is vq, which has no distribution to sample from"},
        Conflict{"dvae: {model: {codebook_init_std: 0}}",
                 "x.yaml:1:35: dvae.model.codebook_init_std: found 0, expected more than 0 or "
                 "null"},
        Conflict{"clip: {model: {patch_size: 24}}",
                 "x.yaml:1:28: clip.model.patch_size: found 24, expected a divisor of "
                 "data.image_size, which is 256"},
        Conflict{"clip: {train: {batch_size: 1}}",
                 "x.yaml:1:28: clip.train.batch_size: found 1, expected at least 2, since samples "
                 "are compared with one another"},
        Conflict{"clip: {train: {eval_samples: 1}}",
                 "x.yaml:1:30: clip.train.eval_samples: found 1, expected at least 2, since "
                 "samples are compared with one another"},
        Conflict{"clip: {model: {image_heads: 10}}",
                 "x.yaml:1:29: clip.model.image_heads: found 10, expected a divisor of "
                 "clip.model.image_width, which is 768"},
        Conflict{"clip: {model: {text_width: 100}}",
                 "x.yaml:1:28: clip.model.text_heads: found 8, expected a divisor of "
                 "clip.model.text_width, which is 100"},
        Conflict{"dalle: {model: {heads: 60}}",
                 "x.yaml:1:24: dalle.model.heads: found 60, expected a divisor of "
                 "dalle.model.width, which is 3968"},
        Conflict{"dalle: {model: {attention: []}}",
                 "x.yaml:1:28: dalle.model.attention: found an empty list, expected at least one "
                 "mask"},
        Conflict{"dalle: {model: {conv_kernel: 4}}",
                 "x.yaml:1:30: dalle.model.conv_kernel: found 4, expected an odd number"},
        Conflict{"dalle: {model: {conv_kernel: 65}}",
                 "x.yaml:1:30: dalle.model.conv_kernel: found 65, expected at most 63, which "
                 "spans the 32x32 grid of codes"}));

INSTANTIATE_TEST_SUITE_P(
    Training, ExperimentConflict,
    testing::Values(
        Conflict{"dvae: {train: {micro_batch_size: 7}}",
                 "x.yaml:1:34: dvae.train.micro_batch_size: found 7, expected a divisor of "
                 "dvae.train.batch_size, which is 512"},
        Conflict{"dalle: {train: {batch_size: 4, micro_batch_size: 8}}",
                 "x.yaml:1:50: dalle.train.micro_batch_size: found 8, expected a divisor of "
                 "dalle.train.batch_size, which is 4"},
        Conflict{"dvae: {train: {beta1: 1}}",
                 "x.yaml:1:23: dvae.train.beta1: found 1, expected less than 1"},
        Conflict{"dalle: {train: {beta2: 1}}",
                 "x.yaml:1:24: dalle.train.beta2: found 1, expected less than 1"},
        Conflict{"dalle: {train: {ema_decay: 1.0}}",
                 "x.yaml:1:28: dalle.train.ema_decay: found 1, expected less than 1"},
        Conflict{"dvae: {train: {epsilon: 0}}",
                 "x.yaml:1:25: dvae.train.epsilon: found 0, expected more than 0"},
        Conflict{"dalle: {train: {plateau: {factor: 1}}}",
                 "x.yaml:1:35: dalle.train.plateau.factor: found 1, expected more than 0 and less "
                 "than 1"},
        Conflict{"dvae: {train: {decay: {to: -0.1}}}",
                 "x.yaml:1:28: dvae.train.decay.to: found -0.1, expected 0 or more"},
        Conflict{"dvae: {train: {temperature: {to: 0}}}",
                 "x.yaml:1:34: dvae.train.temperature.to: found 0, expected more than 0"},
        Conflict{"dvae: {train: {kl_weight: {from: -1}}}",
                 "x.yaml:1:34: dvae.train.kl_weight.from: found -1, expected 0 or more"}));

INSTANTIATE_TEST_SUITE_P(
    Data, ExperimentConflict,
    testing::Values(
        Conflict{"data: {shapes: {min_objects: 3}}",
                 "x.yaml:1:30: data.shapes.min_objects: found 3, expected at most "
                 "data.shapes.max_objects, which is 2"},
        Conflict{"data: {shapes: {recolored_copies: true, max_objects: 1, hold_out: false}}",
                 "x.yaml:1:35: data.shapes.sizes: expected [small], since "
                 "data.shapes.recolored_copies is true"},
        Conflict{"data: {shapes: {held_out_pairs: 3, hold_out: false}}",
                 "x.yaml:1:33: data.shapes.held_out_pairs: found 3, expected 1, since "
                 "data.shapes.hold_out is false"},
        Conflict{"data: {shapes: {held_out_pairs: 6, colors: [red, yellow], shapes: [star, ring, "
                 "circle]}}",
                 "x.yaml:1:33: data.shapes.held_out_pairs: found 6, which leaves no circle in the "
                 "training set"},
        Conflict{"data: {shapes: {position_grid: 4}}",
                 "x.yaml:1:32: data.shapes.position_grid: found 4, expected 0 or at least 5"},
        Conflict{"data: {shapes: {shapes: [star, star]}}",
                 "x.yaml:1:25: data.shapes.shapes: found a name twice, expected each at most "
                 "once"},
        Conflict{"data: {shapes: {colors: [red, blue, red]}}",
                 "x.yaml:1:25: data.shapes.colors: found a name twice, expected each at most "
                 "once"},
        Conflict{"data: {shapes: {sizes: [small, small]}}",
                 "x.yaml:1:24: data.shapes.sizes: found a name twice, expected each at most once"},
        Conflict{"data: {shapes: {textures: [solid, solid]}}",
                 "x.yaml:1:27: data.shapes.textures: found a name twice, expected each at most "
                 "once"},
        Conflict{"data: {shapes: {backgrounds: [grey, grey]}}",
                 "x.yaml:1:30: data.shapes.backgrounds: found a name twice, expected each at most "
                 "once"},
        Conflict{"dalle: {cache_codes: true}",
                 "x.yaml:1:22: dalle.cache_codes: found true, expected false, since "
                 "dalle.crops_per_image is 0: fresh crops cannot be cached"},
        Conflict{"dalle: {cache_codes: true, crops_per_image: 2, image_tokens: sample}",
                 "x.yaml:1:22: dalle.cache_codes: found true, expected false, since "
                 "dalle.image_tokens is sample: fresh samples cannot be cached"},
        Conflict{"sample: {captions: [a star, ' ']}",
                 "x.yaml:1:29: sample.captions[1]: found an empty caption, expected words"},
        Conflict{"sample: {captions: [one two three four]}\ndalle: {model: {text_length: 4}}",
                 "x.yaml:1:21: sample.captions[0]: found 4 words, expected at most 3, the tokens "
                 "that fit into dalle.model.text_length with start-of-text"},
        Conflict{"sample: {top_p: 0}", "x.yaml:1:17: sample.top_p: found 0, expected more than 0"},
        Conflict{"sample: {guidance_from: 0.5, guidance_to: 0.5}",
                 "x.yaml:1:43: sample.guidance_to: found 0.5, expected more than "
                 "sample.guidance_from, which is 0.5"}));

TEST(ExperimentConfig, NeedsAPathForImagesOfTheUser) {
  EXPECT_THAT(problems_of("data: {kind: folder}"),
              ElementsAre("x.yaml:1:14: data.path: found no path, expected the path of the images, "
                          "since data.kind is folder"));
  EXPECT_THAT(problems_of("seed: 2"),  // nothing that decides is in the file
              ElementsAre("x.yaml: data.path: found no path, expected the path of the images, "
                          "since data.kind is folder"));
  EXPECT_NO_THROW(load_experiment_text("data: {kind: folder}", "x.yaml", {}, ConfigUse::kShow));
  EXPECT_THAT(problems_of("data: {kind: shards, path: ''}"),
              ElementsAre("x.yaml:1:28: data.path: found no path, expected the path of the "
                          "images, since data.kind is shards"));
  EXPECT_THAT(problems_of("data: {kind: shapes}"), IsEmpty());
}

TEST(ExperimentConfig, NeedsImagesForValidation) {
  EXPECT_THAT(problems_of("data: {path: a, validation_fraction: 0}"),
              ElementsAre("x.yaml:1:38: data.validation_fraction: found 0, expected more than 0, "
                          "since data.validation_path is not set"));
  EXPECT_THAT(problems_of("data: {path: a, validation_fraction: 0, validation_path: b}"),
              IsEmpty());
}

TEST(ExperimentConfig, MayEndWithinItsWarmUp) {
  EXPECT_THAT(problems_of("data: {kind: shapes}\ndalle: {train: {steps: 10}}"), IsEmpty());
}

TEST(ExperimentConfig, NeedsAKey) {
  for (const char* text : {"", "# name: x\n"})
    EXPECT_THAT(problems_of(text),
                ElementsAre("x.yaml: found no keys (empty, or only comments), expected the "
                            "YAML of an experiment"));
  EXPECT_THAT(problems_of("{}", {"data.path=x"}), IsEmpty());
}

TEST(ExperimentConfig, TakesOnlyPlainFolderNames) {
  for (const char* name : {"a", "shapes-64", "my run", "dalle-1.3b", "caf\u00e9", ".hidden"}) {
    ExperimentConfig config;
    config.name = name;
    config.data.path = "data";
    EXPECT_THAT(validate(config), IsEmpty()) << name;
  }
  for (const std::string& name :
       {std::string(""), std::string(" "), std::string("."), std::string(".."), std::string("a/b"),
        std::string("/a"), std::string("a\nb"), std::string("-a"), std::string(" a"),
        std::string("a "), std::string(201, 'a')}) {
    ExperimentConfig config;
    config.name = name;
    config.data.path = "data";
    const auto conflicts = validate(config);
    ASSERT_EQ(conflicts.size(), 1u) << name;
    EXPECT_EQ(conflicts[0].key, "name");
    EXPECT_EQ(conflicts[0].message,
              "found \"" + name +
                  "\", expected the plain name of a folder: no slash, no control characters, no "
                  "leading space or hyphen, at most 200 bytes");
  }
}

TEST(ExperimentConfig, ReportsFileOverridesAndConflictsAtOnce) {
  EXPECT_THAT(problems_of("data: {kind: shapes, image_size: 100}\n"
                          "dvae: {train: {stepz: 5}}\n"
                          "dalle: {model: {heads: 3}}\n",
                          {"dalle.model.depth=0", "sample.top_p=0"}),
              ElementsAre(HasSubstr("x.yaml:2:16: dvae.train.stepz: unknown key"),
                          HasSubstr("--set dalle.model.depth=0: dalle.model.depth: found 0"),
                          HasSubstr("x.yaml:1:34: data.image_size: found 100"),
                          HasSubstr("x.yaml:3:24: dalle.model.heads: found 3"),
                          HasSubstr("--set sample.top_p=0: sample.top_p: found 0")));
}

TEST(ExperimentConfig, NamesEveryKeyWhenItsLastLetterIsDoubled) {
  for_each_key(config_schema<ExperimentConfig>(), [](const std::string& path, const ConfigKey&) {
    const std::string typo = path + path.back();
    EXPECT_THAT(
        problems_of("data: {kind: shapes}", {typo + "=1"}),
        ElementsAre("--set " + typo + "=1: " + typo + ": unknown key; the nearest is " + path));
  });
}

TEST(ExperimentConfig, LeavesOutConflictsThatComeFromAWrongValue) {
  // With batch_size at its default, 1024, this micro-batch would not divide it.
  EXPECT_THAT(
      problems_of("data: {kind: shapes}\ndalle: {train: {batch_size: x, micro_batch_size: 5}}"),
      ElementsAre(HasSubstr("dalle.train.batch_size: found x")));
}

TEST(ExperimentConfig, ReportsAnUnreadableFileAlone) {
  EXPECT_THAT(problems_of("data: ["), ElementsAre(HasSubstr("found a YAML syntax error")));
  try {
    load_experiment("no-such.yaml");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "no-such.yaml: cannot read: No such file or directory");
  }
}

TEST(ExperimentConfig, LoadsAFileWithOverrides) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "x.yaml") << "name: one\ndata: {kind: shapes}\n";
  const std::vector<std::string> overrides = {"dalle.train.batch_size=8", "name=two"};
  const ExperimentConfig config = load_experiment(folder / "x.yaml", overrides);
  EXPECT_EQ(config.name, "two");
  EXPECT_EQ(config.data.kind, DatasetKind::kShapes);
  EXPECT_EQ(config.dalle.train.batch_size, 8);
  EXPECT_EQ(config.dvae.train, DvaeTrainConfig{});
}

/// A key and its name in former versions, as dotted paths.
struct RenamedKey {
  std::string present;
  std::string former;
  std::string value;  ///< YAML of its default
};

void collect_renamed(const ConfigSchema& schema, const std::string& prefix,
                     std::vector<RenamedKey>& keys) {
  for (const ConfigKey& key : schema.keys) {
    if (!key.formerly.empty())
      keys.push_back({prefix + key.name, prefix + key.formerly, dump_inline(key.default_value)});
    collect_renamed(key.schema, prefix + key.name + ".", keys);
  }
}

std::vector<RenamedKey> renamed_keys() {
  std::vector<RenamedKey> keys;
  collect_renamed(config_schema<ExperimentConfig>(), "", keys);
  return keys;
}

/// a.b.c as {a: {b: {c: value}}}
std::string nested(const std::string& path, const std::string& value) {
  const size_t dot = path.find('.');
  return "{" + path.substr(0, dot) + ": " +
         (dot == path.npos ? value : nested(path.substr(dot + 1), value)) + "}";
}

TEST(ExperimentConfig, KnowsTheNamesOfVersion01) {
  std::vector<std::string> former;
  for (const RenamedKey& key : renamed_keys()) former.push_back(key.former);
  EXPECT_THAT(
      former,
      testing::IsSupersetOf(
          {"data.max_bad_fraction", "dvae.train.clip_norm", "dvae.train.average_decay",
           "dvae.train.average_every", "dvae.train.plateau.max_cuts", "dalle.train.clip_norm",
           "dalle.train.average_decay", "dalle.train.average_every", "dalle.train.plateau.max_cuts",
           "dalle.crops_per_picture", "distributed.exact"}));
}

TEST(ExperimentConfig, ReadsFormerNamesAsPresentOnes) {
  const ConfigSchema schema = config_schema<ExperimentConfig>();
  for (const auto& [present, former, value] : renamed_keys()) {
    SCOPED_TRACE(former);
    const ConfigReading expected = read_config_text(schema, nested(present, value), "x.yaml");
    const ConfigReading in_file = read_config_text(schema, nested(former, value), "x.yaml");
    EXPECT_THAT(in_file.problems, IsEmpty());
    EXPECT_EQ(in_file.layers, expected.layers);
    EXPECT_NE(in_file.place_of(present), "");

    const std::vector<std::string> overrides = {former + "=" + value};
    const ConfigReading set = read_config_text(schema, "{}", "x.yaml", overrides);
    EXPECT_THAT(set.problems, IsEmpty());
    ASSERT_EQ(set.layers.size(), 2u);
    EXPECT_EQ(set.layers[1], expected.layers[0]);
    EXPECT_EQ(set.place_of(present), "--set " + overrides[0]);
  }
}

TEST(ExperimentConfig, RefusesAKeyUnderBothOfItsNames) {
  for (const auto& [present, former, value] : renamed_keys()) {
    const std::string last_name = former.substr(former.rfind('.') + 1);
    const std::string parent = present.substr(0, present.rfind('.') + 1);
    EXPECT_THAT(
        problems_of(nested(present, value + ", " + last_name + ": " + value), {"data.kind=shapes"}),
        ElementsAre(testing::EndsWith(": " + parent + last_name +
                                      ": duplicate key; first defined on line 1 as " +
                                      present.substr(parent.size()))));
  }
}

TEST(ExperimentConfig, HasAContrastiveModelOnlyIfTheYamlHas) {
  const std::vector<std::string> shapes = {"data.kind=shapes"};
  EXPECT_EQ(load_experiment_text("name: x", "x.yaml", shapes).clip, std::nullopt);
  EXPECT_EQ(load_experiment_text("clip: null", "x.yaml", shapes).clip, std::nullopt);
  const std::string yaml = "clip: {model: {embed_dim: 64}, train: {steps: 30}}";
  ClipStageConfig expected;
  expected.model.embed_dim = 64;
  expected.train.steps = 30;
  EXPECT_EQ(load_experiment_text(yaml, "x.yaml", shapes).clip, expected);
  expected.train.steps = 5;  // an override keeps the other keys
  EXPECT_EQ(load_experiment_text(yaml, "x.yaml", {{shapes[0], "clip.train.steps=5"}}).clip,
            expected);
  EXPECT_EQ(load_experiment_text(yaml, "x.yaml", {{shapes[0], "clip=null"}}).clip, std::nullopt);
}

TEST(ExperimentConfig, LetsAResumedRunChangeWhatChangesNoNumberOfItsTraining) {
  std::vector<std::string> expected = {"name",
                                       "sample",
                                       "from.checkpoint",  // their SHA-256s may not
                                       "from.clip_checkpoint",
                                       "data.path",
                                       "data.validation_path",
                                       "data.workers",
                                       "data.prefetch",
                                       "data.index_cache",
                                       "data.max_invalid_fraction",
                                       "dvae.checkpoint",  // its SHA-256 may not
                                       "distributed.backend",
                                       "distributed.timeout_s",
                                       "distributed.bucket_mb",
                                       "distributed.shard_optimizer",
                                       "distributed.check_replicas_every",
                                       "dalle.train.sample_every",
                                       "dalle.cache_codes"};
  for (const char* stage : {"dvae", "dalle", "clip"})
    for (const char* key : {"steps", "save_every", "save_every_minutes", "keep_last", "keep_best",
                            "max_skipped_steps"})
      expected.push_back(fmt::format("{}.train.{}", stage, key));
  EXPECT_THAT(keys_that_may_change(config_schema<ExperimentConfig>()),
              testing::UnorderedElementsAreArray(expected));
}

}  // namespace
}  // namespace dalle
