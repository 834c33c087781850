#include "tensor/named_tensors.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

#include <fmt/ranges.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include "core/error.h"
#include "tensor/safetensors.h"

namespace dalle {
namespace {

constexpr std::array<std::pair<std::string_view, at::ScalarType>, 11> kTypes = {
    {{"BOOL", at::kBool},
     {"U8", at::kByte},
     {"I8", at::kChar},
     {"U16", at::kUInt16},
     {"I16", at::kShort},
     {"F16", at::kHalf},
     {"BF16", at::kBFloat16},
     {"I32", at::kInt},
     {"F32", at::kFloat},
     {"I64", at::kLong},
     {"F64", at::kDouble}}};

std::string_view dtype_of_tensor(const std::string& name, const at::Tensor& tensor) {
  const auto* found =
      std::ranges::find(kTypes, tensor.scalar_type(), &decltype(kTypes)::value_type::second);
  if (found == kTypes.end())
    throw Error("tensor \"{}\": the safetensors format does not support type {}", name,
                c10::toString(tensor.scalar_type()));
  return found->first;
}

/// Passes the bytes of a safetensors file to `sink`, piece by piece.
void stream_safetensors(const NamedTensors& tensors,
                        const std::map<std::string, std::string>& metadata,
                        const std::function<void(std::string_view)>& sink) {
  SafetensorsHeader header{.entries = {}, .metadata = metadata};
  int64_t position = 0;
  for (const auto& [name, tensor] : tensors) {
    DALLE_CHECK(tensor.defined() && tensor.layout() == at::kStrided);
    const int64_t begin = position;
    position += static_cast<int64_t>(tensor.nbytes());
    header.entries.push_back({.name = name,
                              .dtype = std::string(dtype_of_tensor(name, tensor)),
                              .shape = tensor.sizes().vec(),
                              .begin = begin,
                              .end = position});
  }
  sink(format_safetensors_header(header));
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor contiguous = tensor.detach().to(at::kCPU).contiguous();
    sink({static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes()});
  }
}

std::string shape_text(const at::Tensor& tensor) {
  return fmt::format("[{}]", fmt::join(tensor.sizes(), ", "));
}

bool is_convertible(const at::Tensor& from, const at::Tensor& to) {
  return from.scalar_type() == to.scalar_type() ||
         (from.is_floating_point() && to.is_floating_point());
}

/// The first few of the texts; a foreign file may have any number.
std::string list_text(const std::vector<std::string>& texts, std::string_view separator) {
  constexpr size_t kMost = 10;
  const std::string list = fmt::format(
      "{}", fmt::join(std::span(texts).first(std::min(texts.size(), kMost)), separator));
  return texts.size() <= kMost ? list : fmt::format("{} and {} more", list, texts.size() - kMost);
}

/// Describes each way in which `tensors` differs from `expected`.
std::vector<std::string> mismatches(const std::map<std::string, at::Tensor>& expected,
                                    const NamedTensors& tensors) {
  std::map<std::string, at::Tensor> given;
  std::vector<std::string> duplicate, missing, unexpected, mismatched;
  for (const auto& [name, tensor] : tensors) {
    if (!given.emplace(name, tensor).second) duplicate.push_back(name);
    const auto found = expected.find(name);
    if (found == expected.end())
      unexpected.push_back(name);
    else if (tensor.sizes() != found->second.sizes())
      mismatched.push_back(fmt::format("{} has shape {}, expected {}", name, shape_text(tensor),
                                       shape_text(found->second)));
    else if (!is_convertible(tensor, found->second))
      mismatched.push_back(fmt::format("{} has type {}, expected {}", name,
                                       c10::toString(tensor.scalar_type()),
                                       c10::toString(found->second.scalar_type())));
  }
  for (const auto& [name, tensor] : expected)
    if (!given.contains(name)) missing.push_back(name);

  std::vector<std::string> clauses;
  if (!mismatched.empty()) clauses.push_back(list_text(mismatched, "; "));
  const auto list = [&](const char* problem, const std::vector<std::string>& names) {
    if (!names.empty()) clauses.push_back(fmt::format("{} {}", problem, list_text(names, ", ")));
  };
  list("missing", missing);
  list("unexpected", unexpected);
  list("duplicate", duplicate);
  return clauses;
}

}  // namespace

at::ScalarType type_of_dtype(std::string_view dtype) {
  const auto* found = std::ranges::find(kTypes, dtype, &decltype(kTypes)::value_type::first);
  DALLE_CHECK(found != kTypes.end());
  return found->second;
}

SafetensorsFile read_safetensors(const std::filesystem::path& path) {
  const SafetensorsHeader header = read_safetensors_header(path);
  std::ifstream file(path, std::ios::binary);
  SafetensorsFile content{.tensors = {}, .metadata = header.metadata};
  for (const SafetensorsEntry& entry : header.entries) {
    const at::ScalarType type = type_of_dtype(entry.dtype);
    // Booleans are read as bytes: a bool with a value other than 0 and 1 is undefined behavior.
    at::Tensor tensor = torch::empty(entry.shape, type == at::kBool ? at::kByte : type);
    file.seekg(header.data_start + entry.begin);
    file.read(static_cast<char*>(tensor.mutable_data_ptr()), entry.end - entry.begin);
    if (!file) throw Error("{}: cannot read: {}", path.string(), std::strerror(errno));
    if (type == at::kBool) {
      if (tensor.numel() > 0 && tensor.max().item<int64_t>() > 1)
        throw Error("{}: tensor \"{}\": has type BOOL, but contains bytes other than 0 and 1",
                    path.string(), entry.name);
      tensor = tensor.view(at::kBool);
    }
    content.tensors.emplace_back(entry.name, std::move(tensor));
  }
  return content;
}

FileDigest write_safetensors(const std::filesystem::path& path, const NamedTensors& tensors,
                             const std::map<std::string, std::string>& metadata) {
  FileWriter writer(path);
  stream_safetensors(tensors, metadata, [&](std::string_view piece) { writer.write(piece); });
  return writer.finish();
}

std::string safetensors_bytes(const NamedTensors& tensors,
                              const std::map<std::string, std::string>& metadata) {
  std::string bytes;
  stream_safetensors(tensors, metadata, [&](std::string_view piece) { bytes += piece; });
  return bytes;
}

NamedTensors weights_of(const torch::nn::Module& module) {
  NamedTensors weights;
  for (const auto& item : module.named_parameters())
    weights.emplace_back(item.key(), item.value().detach().to(at::kCPU));
  for (const auto& item : module.named_buffers())
    weights.emplace_back(item.key(), item.value().detach().to(at::kCPU));
  return weights;
}

void load_weights(torch::nn::Module& module, const NamedTensors& tensors,
                  const std::string& source) {
  NamedTensors targets;
  for (const auto& item : module.named_parameters()) targets.emplace_back(item.key(), item.value());
  for (const auto& item : module.named_buffers()) targets.emplace_back(item.key(), item.value());
  load_tensors(targets, tensors, source);
}

void load_tensors(const NamedTensors& targets, const NamedTensors& tensors,
                  const std::string& source) {
  const std::map<std::string, at::Tensor> expected(targets.begin(), targets.end());
  if (const auto clauses = mismatches(expected, tensors); !clauses.empty())
    throw Error("{}: does not match the model: {}", source, fmt::join(clauses, "; "));
  const torch::NoGradGuard no_grad;
  for (const auto& [name, tensor] : tensors) expected.at(name).copy_(tensor);
}

}  // namespace dalle
