#include "tensor/torch_state.h"

#include <limits>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"
#include "tensor/pickle_bytes.h"

namespace dalle {
namespace {

using namespace pickle;
using testing::HasSubstr;

TorchState state_of(const std::string& value) {
  const std::string bytes = file(value);
  return read_torch_state(read_torch_pickle(bytes, "x.pkl"), "x.pkl");
}

std::string error_of_state(const std::string& value) {
  return error_of([&] { state_of(value); });
}

/// The error for a tensor "w" in a storage of 6 elements.
std::string error_of_view(int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
  return error_of_state(dict(text("w") + tensor(storage(6), offset, shape, strides)));
}

TEST(TorchStateTest, ListsTheTensorsOfAStateDict) {
  const TorchState state =
      state_of(kOrderedDictCall + "(" + text("a.w") + tensor(storage(9), 3, {2, 3}, {1, 2}) +
               text("b") + tensor(storage(1, "7", "LongStorage"), 0, {}, {}) + "u" +
               dict(text("_metadata") + kOrderedDictCall) + "b");
  EXPECT_EQ(state.tensors,
            (std::vector<TorchTensor>{{"a.w", "0", 3, {2, 3}, {1, 2}}, {"b", "7", 0, {}, {}}}));
  EXPECT_EQ(state.storages,
            (std::map<std::string, TorchStorage>{{"0", {"F32", 9}}, {"7", {"I64", 1}}}));
  EXPECT_EQ(state.storages.at("7").byte_size(), 8);
}

TEST(TorchStateTest, ListsTheParametersAndBuffersOfModules) {
  const std::string inner =
      module(text("_parameters") +
             dict(text("w") + parameter(tensor(storage(2), 0, {2}, {1})) + text("b") + "N") +
             text("post_gain") + "G\x3f\xd0" + std::string(6, '\0') + text("training") + "\x88");
  const TorchState state = state_of(
      module(text("_modules") + kOrderedDictCall + "(" + text("conv") + inner + text("none") +
             "Nu" + text("_buffers") + dict(text("scale") + tensor(storage(3, "1"), 0, {3}, {1}))));
  EXPECT_EQ(state.tensors,
            (std::vector<TorchTensor>{{"conv.w", "0", 0, {2}, {1}}, {"scale", "1", 0, {3}, {1}}}));
  EXPECT_EQ(state.numbers, (std::map<std::string, double>{{"conv.post_gain", 0.25}}));
}

TEST(TorchStateTest, ReadsModulesWhoseClassesAreStoredWithTheirSource) {
  const std::string stored = tuple(text("module") + global("dall_e.encoder", "Encoder") +
                                   text("encoder.py") + text("class Encoder: ...")) +
                             "Q";
  EXPECT_EQ(error_of_state(stored + ")\x81}b"), "no error");
  EXPECT_THAT(error_of_state(tuple(text("module") + text("os.system")) + "Q)\x81}b"),
              HasSubstr("found a call of"));
}

TEST(TorchStateTest, RefusesViewsThatExceedTheirStorage) {
  EXPECT_EQ(error_of_view(0, {2, 3}, {3, 1}), "no error");
  EXPECT_EQ(error_of_view(5, {1}, {1'000'000}), "no error");
  EXPECT_EQ(error_of_view(6, {0, 4}, {4, 1}), "no error");
  constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();
  constexpr std::string_view kDoesNotFit =
      "\"w\": does not fit into its storage \"0\" of 6 elements";
  for (const std::string& error :
       {error_of_view(1, {2, 3}, {3, 1}), error_of_view(-1, {2}, {1}), error_of_view(6, {1}, {1}),
        error_of_view(0, {2}, {6}), error_of_view(0, {7}, {0}), error_of_view(7, {0}, {1}),
        error_of_view(kLargest, {2}, {kLargest}), error_of_view(0, {3}, {kLargest}),
        error_of_view(0, {kLargest, 3}, {0, 0}), error_of_view(0, {0, kLargest, 2}, {1, 1, 1})})
    EXPECT_THAT(error, HasSubstr(std::string(kDoesNotFit)));
}

TEST(TorchStateTest, RefusesInvalidShapes) {
  EXPECT_THAT(error_of_view(0, {-2}, {1}), HasSubstr("not negative"));
  EXPECT_THAT(error_of_view(0, {2}, {-1}), HasSubstr("not negative"));
  EXPECT_THAT(error_of_view(0, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}), HasSubstr("up to 8 numbers"));
  EXPECT_THAT(error_of_view(0, {2, 3}, {1}), HasSubstr("found 2 sizes and 1 strides"));
}

TEST(TorchStateTest, RefusesInvalidStorages) {
  EXPECT_THAT(error_of_state(dict(text("w") + tensor(text("0"), 0, {1}, {1}))),
              HasSubstr("expected a storage"));
  EXPECT_THAT(error_of_state(dict(text("w") + tensor(storage(-1), 0, {1}, {1}))),
              HasSubstr("storage \"0\": found -1 elements"));
  EXPECT_THAT(error_of_state(dict(text("w") + tensor(storage(int64_t{1} << 60), 0, {1}, {1}))),
              HasSubstr("found 1152921504606846976 elements"));
  EXPECT_THAT(error_of_state(dict(text("a") + tensor(storage(1), 0, {1}, {1}) + text("b") +
                                  tensor(storage(1, "0", "HalfStorage"), 0, {1}, {1}))),
              HasSubstr("two different types or sizes"));
  for (const std::string& id :
       {tuple(text("storage")), tuple(text("file") + "NNNN"), tuple("NNNNN"),
        tuple(text("storage") + text("FloatStorage") + text("0") + text("cpu") + integer(1)),
        tuple(text("storage") + global("torch", "FloatStorage") + text(std::string(257, '0')) +
              text("cpu") + integer(1)),
        tuple(text("storage") + global("torch", "FloatStorage") + text("0") + text("cpu") +
              integer(1) + tuple(text("view") + integer(0) + integer(1)))})
    EXPECT_THAT(error_of_state(dict(text("w") + tensor(id + "Q", 0, {1}, {1}))),
                HasSubstr("not a storage"));
}

TEST(TorchStateTest, RefusesAnythingButTensors) {
  EXPECT_THAT(error_of_state("N"), HasSubstr("expected a state dict or a module"));
  EXPECT_THAT(error_of_state(dict(text("w") + "K\1")), HasSubstr("\"w\": expected a tensor"));
  EXPECT_THAT(error_of_state(dict(text("w") + dict(text("v") + "N"))), HasSubstr("\"w\""));
  EXPECT_THAT(error_of_state(dict(text("w") + parameter("N"))), HasSubstr("expected a tensor"));
  EXPECT_THAT(error_of_state(dict(text("w") + global("torch._utils", "_rebuild_tensor_v2") + ")R")),
              HasSubstr("too few values"));
  EXPECT_THAT(error_of_state(module(text("_parameters") + "]")), HasSubstr("a dictionary"));
  EXPECT_THAT(error_of_state(module(text("_modules") + dict(text("m") + "K\1"))),
              HasSubstr("\"m\": expected a module"));
}

TEST(TorchStateTest, RefusesInvalidKeys) {
  const std::string value = tensor(storage(1), 0, {1}, {1});
  for (const std::string& key : {std::string("K\1"), text(""), text("a b"), text("\x1b[2J"),
                                 text("\xc3\xa4"), text(std::string(257, 'k'))})
    EXPECT_THAT(error_of_state(dict(key + value)), HasSubstr("ASCII")) << key;
  EXPECT_THAT(error_of_state(dict(text("w") + value + text("w") + value)),
              HasSubstr("\"w\": appears twice"));
}

TEST(TorchStateTest, LimitsModulesThatContainThemselvesOrShareOthers) {
  const std::string layer = global("torch.nn.modules.container", "Sequential") + ")\x81";
  // Itself: memo 1.
  EXPECT_THAT(
      error_of_state(layer + "q\1" + dict(text("_modules") + dict(text("m") + "h\1")) + "b"),
      HasSubstr("within each other"));
  // 2^30 paths through 30 modules, each of which has the one before it twice.
  std::string chain = module(text("_training") + "\x88") + "q" + '\0';
  for (char i = 0; i < 30; ++i)
    chain = module(text("_modules") + dict(text("a") + chain + text("b") + "h" + i)) + "q" +
            static_cast<char>(i + 1);
  EXPECT_THAT(error_of_state(chain), HasSubstr("more than 131072 entries"));
}

TEST(TorchStateTest, LimitsVisitsOfAWideModuleThatOthersShare) {
  std::string attributes, members;
  for (int i = 0; i < 4096; ++i) attributes += text(std::to_string(i)) + "\x88";
  for (int i = 0; i < 40; ++i) members += text(std::to_string(i)) + "h\1";
  EXPECT_THAT(error_of_state(module(text("_modules") +
                                    dict(text("leaf") + module(attributes) + "q\1" + members))),
              HasSubstr("more than 131072 entries"));
}

TEST(TorchStateTest, LimitsTheNamesOfModules) {
  std::string nested = module(text("training") + "\x88");
  for (int i = 0; i < 3; ++i)
    nested = module(text("_modules") + dict(text(std::string(200, 'm')) + nested));
  EXPECT_THAT(error_of_state(nested), HasSubstr("a name of more than 512 bytes"));
}

TEST(TorchStateTest, RefusesTensorsWithMetadata) {
  std::string call = tensor(storage(1), 0, {1}, {1});
  call.resize(call.size() - 2);  // without the end of its arguments
  const auto error_of_metadata = [&](const std::string& metadata) {
    return error_of_state(dict(text("w") + call + metadata + "tR"));
  };
  EXPECT_EQ(error_of_metadata("N"), "no error");
  EXPECT_EQ(error_of_metadata("}"), "no error");
  for (const std::string& metadata :
       {dict(text("neg") + "\x88"), std::string("K\1"), std::string("NN")})
    EXPECT_THAT(error_of_metadata(metadata), HasSubstr("\"w\": has metadata")) << metadata;
}

TEST(TorchStateTest, LimitsTheMemoryOfManyViews) {
  std::string views;
  for (int i = 0; i < 3; ++i)
    views += text(std::to_string(i)) + tensor(storage(1000), 0, {1000}, {1});
  EXPECT_THAT(error_of_state(dict(views)),
              HasSubstr("its tensors have 12000 bytes, but their storages only 4000"));
}

}  // namespace
}  // namespace dalle
