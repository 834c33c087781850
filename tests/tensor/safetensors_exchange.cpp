// Writes the tensors that safetensors_test.py expects, or checks the ones that it has written.
//
//   safetensors_exchange write FILE      safetensors_exchange check FILE

#include <cstdio>
#include <exception>
#include <map>
#include <string>

#include <torch/types.h>

#include "tensor/named_tensors.h"

namespace dalle {
namespace {

/// One tensor of shape [2, 3] per type, with the values 0 to 5.
NamedTensors expected_tensors() {
  NamedTensors tensors;
  const auto add = [&](const char* name, at::ScalarType type) {
    tensors.emplace_back(name, torch::arange(6).view({2, 3}).to(type));
  };
  add("U8", at::kByte);
  tensors.emplace_back("BOOL", torch::tensor({1, 0, 1}, torch::kInt).to(at::kBool));
  add("I8", at::kChar);
  add("U16", at::kUInt16);
  add("I16", at::kShort);
  add("F16", at::kHalf);
  add("BF16", at::kBFloat16);
  add("I32", at::kInt);
  add("F32", at::kFloat);
  add("I64", at::kLong);
  add("F64", at::kDouble);
  tensors.emplace_back("scalar", torch::tensor(1.5f));
  tensors.emplace_back("empty", torch::empty({0, 4}));
  return tensors;
}

/// Sorted by name, because the Python package reorders tensors, and without BF16, which numpy
/// lacks.
std::map<std::string, std::string> comparable(const NamedTensors& tensors) {
  std::map<std::string, std::string> bytes;
  for (const auto& item : tensors)
    if (item.first != "BF16") bytes[item.first] = safetensors_bytes({item});
  return bytes;
}

int exchange(const std::string& action, const std::string& path) {
  if (action == "write") {
    write_safetensors(path, expected_tensors(), {{"format", "pt"}, {"note", "from C++"}});
    return 0;
  }
  const SafetensorsFile file = read_safetensors(path);
  const bool same = comparable(file.tensors) == comparable(expected_tensors()) &&
                    file.metadata == std::map<std::string, std::string>{{"note", "from Python"}};
  if (!same) std::fprintf(stderr, "%s: read other tensors than were written\n", path.c_str());
  return same ? 0 : 1;
}

}  // namespace
}  // namespace dalle

int main(int count, char** arguments) {
  if (count != 3) return 2;
  try {
    return dalle::exchange(arguments[1], arguments[2]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
