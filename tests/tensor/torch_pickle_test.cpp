#include "tensor/torch_pickle.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "error_of.h"
#include "tensor/pickle_bytes.h"

namespace dalle {
namespace {

using namespace pickle;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of_pickle(const std::string& bytes) {
  return error_of([&] { read_torch_pickle(bytes, "x.pkl"); });
}

/// What a state dict of one tensor and a module of one parameter are made of.
std::string sample() {
  return file(dict(text("dict") + dict(text("w") + tensor(storage(6), 0, {2, 3}, {3, 1})) +  //
                   text("module") + module(text("p") + parameter(storage(6, "1"))) +         //
                   text("flags") + "]q\x07(\x88\x89NK\x05M\x01\x02" + integer(-3) + "e" +    //
                   text("again") + "h\x07" +                                                 //
                   text("one") + "G\x3f\xf8" + std::string(6, '\0') + "\x85"));
}

TEST(TorchPickleTest, ReadsNumbersTextAndContainers) {
  const std::string valid =
      file("(K\xffM\xff\xffJ\xff\xff\xff\xff" + integer(-5) + std::string("\x8a\x01\x80", 3) +
           "G\xbf\xf8" + std::string(6, '\0') + text("a\xc3\xa4") + "N\x88\x89]K\x01" + "at");
  const std::string longer = valid + "more";  // the pickle's texts are views of it
  const Pickle pickle = read_torch_pickle(longer, "x.pkl");
  EXPECT_EQ(pickle.size, valid.size());
  const PickleValue& root = pickle.at(pickle.root);
  ASSERT_EQ(root.kind, PickleKind::kTuple);
  ASSERT_EQ(root.items.size(), 11u);
  const auto item = [&](size_t i) { return pickle.at(root.items[i]); };
  EXPECT_EQ(item(0).integer, 255);
  EXPECT_EQ(item(1).integer, 65535);
  EXPECT_EQ(item(2).integer, -1);
  EXPECT_EQ(item(3).integer, -5);
  EXPECT_EQ(item(4).integer, -128);
  EXPECT_EQ(item(5).number, -1.5);
  EXPECT_EQ(item(6).text, "a\xc3\xa4");
  EXPECT_EQ(item(7).kind, PickleKind::kNone);
  EXPECT_EQ(item(8).integer, 1);
  EXPECT_EQ(item(9).integer, 0);
  EXPECT_EQ(pickle.at(item(10).items.at(0)).integer, 1);
}

TEST(TorchPickleTest, ReadsWhatPyTorchWrites) {
  EXPECT_EQ(error_of_pickle(sample()), "no error");
}

TEST(TorchPickleTest, RefusesEveryOtherInstruction) {
  const std::string known = std::string(".(NJKMGX)t]ae}suqrhjcRbQ\x80\x81\x85\x86\x87\x88\x89\x8a");
  for (int opcode = 0; opcode < 256; ++opcode) {
    const auto byte = static_cast<char>(opcode);
    if (known.find(byte) != known.npos && byte != '\x80') continue;
    // Whatever operands it might want: on the stack, as text, or as bytes.
    const std::string bytes = kProto + "NNN" + byte + "os\nsystem\n" + std::string(64, '\1');
    EXPECT_THAT(
        error_of_pickle(bytes),
        AllOf(StartsWith("x.pkl: "), HasSubstr(fmt::format("unsupported opcode {:#04x}", opcode))))
        << opcode;
  }
}

TEST(TorchPickleTest, RefusesOtherProtocols) {
  EXPECT_THAT(error_of_pickle("N."), HasSubstr("protocol 2"));
  EXPECT_THAT(error_of_pickle("\x80\x04N."), HasSubstr("protocol 2"));
  EXPECT_THAT(error_of_pickle(""), HasSubstr("truncated"));
}

TEST(TorchPickleTest, RefusesNamesOfAnythingButTensorsAndLayers) {
  for (const auto& [module, name] : {std::pair{"os", "system"},
                                     {"posix", "system"},
                                     {"__builtin__", "eval"},
                                     {"__builtin__", "getattr"},
                                     {"builtins", "exec"},
                                     {"subprocess", "Popen"},
                                     {"torch", "load"},
                                     {"torch.hub", "load"},
                                     {"torch.nn", "Module"},
                                     {"torch._utils", "_rebuild_tensor"},
                                     {"torch", "ComplexFloatStorage"},
                                     {"torch.serialization", "load"},
                                     {"numpy", "frombuffer"}}) {
    const std::string full = fmt::format("{}.{}", module, name);
    EXPECT_THAT(error_of_pickle(file(global(module, name) + text("x") + "\x85R")),
                HasSubstr(full + ", which"))
        << full;
  }
  EXPECT_THAT(error_of_pickle(file(global("torch.nn.modules.\x1b[2J", "x"))), HasSubstr("name"));
  EXPECT_THAT(error_of_pickle(file("c" + std::string(1000, 'a'))), HasSubstr("longer than"));
}

TEST(TorchPickleTest, RecordsCallsOfFunctionsAndObjectsOfClassesAlone) {
  const std::string function = global("collections", "OrderedDict");
  const std::string layer = global("torch.nn.modules.linear", "Linear");
  EXPECT_EQ(error_of_pickle(file(function + ")R")), "no error");
  EXPECT_EQ(error_of_pickle(file(layer + ")\x81")), "no error");
  for (const std::string& call :
       {layer + ")R", global("torch", "FloatStorage") + ")R", text("os.system") + ")R",
        storage(1) + ")R", function + ")R)R", layer + ")\x81)R", function + ")\x81",
        text("x") + ")\x81", function + "]R", function + "NR", layer + "}\x81"})
    EXPECT_THAT(error_of_pickle(file(call)), HasSubstr("found a call of")) << call;
}

TEST(TorchPickleTest, RefusesDictionariesWhoseItemsAreArguments) {
  EXPECT_THAT(error_of_pickle(file(global("collections", "OrderedDict") +
                                   tuple("](](" + text("w") + "Nee") + "R")),
              HasSubstr("OrderedDict with arguments"));
}

TEST(TorchPickleTest, RefusesStatesOfAnythingButLayersAndDictionaries) {
  const std::string layer = global("torch.nn.modules.linear", "Linear");
  EXPECT_EQ(error_of_pickle(file(kOrderedDictCall + "}b")), "no error");
  for (const std::string& build :
       {std::string("}}b"), std::string("]}b"), std::string("N}b"), std::string(")}b"),
        layer + "}b", layer + ")\x81Nb", layer + ")\x81" + tuple("}}") + "b",
        layer + ")\x81" + dict("") + "b" + dict("") + "b", storage(1) + "}b",
        tensor(storage(1), 0, {1}, {1}) + "}b"})
    EXPECT_THAT(error_of_pickle(file(build)), HasSubstr("found attributes of")) << build;
}

TEST(TorchPickleTest, RefusesItemsOfAnythingButListsAndDictionaries) {
  EXPECT_EQ(error_of_pickle(file(kOrderedDictCall + "NNs")), "no error");
  EXPECT_THAT(error_of_pickle(file(")Na")), HasSubstr("not a list"));
  EXPECT_THAT(error_of_pickle(file("}(Ne")), HasSubstr("not a list"));
  EXPECT_THAT(error_of_pickle(file("]NNs")), HasSubstr("not a dictionary"));
  EXPECT_THAT(error_of_pickle(file(storage(1) + "NNs")), HasSubstr("not a dictionary"));
  EXPECT_THAT(error_of_pickle(file("}(NNNu")), HasSubstr("without a value"));
}

TEST(TorchPickleTest, RefusesReferencesThatAreNotTuples) {
  for (const std::string& id : {std::string("N"), std::string(")"), std::string("]"), text("0")})
    EXPECT_THAT(error_of_pickle(file(id + "Q")), HasSubstr("persistent ID")) << id;
}

TEST(TorchPickleTest, RefusesAStackThatDoesNotAddUp) {
  EXPECT_THAT(error_of_pickle(kProto + "."), HasSubstr("operands"));
  EXPECT_THAT(error_of_pickle(file("\x85")), HasSubstr("operands"));
  EXPECT_THAT(error_of_pickle(file("N\x86")), HasSubstr("operands"));
  EXPECT_THAT(error_of_pickle(file("t")), HasSubstr("MARK"));
  EXPECT_THAT(error_of_pickle(file("N(\x85")), HasSubstr("operands"));  // below the mark
  EXPECT_THAT(error_of_pickle(file("](q\1")), HasSubstr("operands"));
  EXPECT_THAT(error_of_pickle(file("NN")), HasSubstr("left over"));
  EXPECT_THAT(error_of_pickle(file("((Nt")), HasSubstr("left over"));
}

TEST(TorchPickleTest, LimitsTheMemo) {
  EXPECT_THAT(error_of_pickle(file("h\1")), HasSubstr("undefined memo key 1"));
  EXPECT_THAT(error_of_pickle(file("Nr\xff\xff\xff\xff")), HasSubstr("memo key 4294967295"));
  EXPECT_THAT(error_of_pickle(file("Nr\xff\xff\x03" + std::string("\0h\3", 3))),
              HasSubstr("undefined memo key 3"));
}

TEST(TorchPickleTest, LimitsValuesAndSizes) {
  EXPECT_THAT(error_of_pickle(file("(" + std::string(kMaxPickleValues, ']') + "t")),
              HasSubstr("more than 262144 values"));
  EXPECT_THAT(error_of_pickle(file("X\xff\xff\xff\xff")), HasSubstr("expected 4294967295"));
  EXPECT_THAT(error_of_pickle(file(text(std::string(kMaxPickleBytes, 'x')))),
              HasSubstr("larger than 16777216 bytes"));
  EXPECT_EQ(error_of_pickle(file(std::string(100'000, '(') + "N" + std::string(100'000, 't'))),
            "no error");  // nested as deep as it likes: nothing here is recursive
}

TEST(TorchPickleTest, RefusesAFileThatIsTruncatedAnywhere) {
  const std::string whole = sample();
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_THAT(error_of_pickle(whole.substr(0, size)), StartsWith("x.pkl: refused")) << size;
}

}  // namespace
}  // namespace dalle
