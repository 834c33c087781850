#include "tensor/torch_state.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"
#include "tensor/safetensors.h"

namespace dalle {
namespace {

using Index = PickleValue::Index;

constexpr int64_t kMaxStorageElements = int64_t{1} << 40;
constexpr size_t kMaxEntries = size_t{1} << 17;
constexpr size_t kMaxModuleDepth = 32;
constexpr size_t kMaxDimensions = 8;
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxNameBytes = 512;
// The bytes of all storages, and of all tensors, fit into an int64_t.
static_assert(kMaxEntries <= kMaxPickleValues &&
              kMaxStorageElements <=
                  std::numeric_limits<int64_t>::max() / 8 / int64_t{kMaxPickleValues});

class StateReader {
 public:
  StateReader(const Pickle& pickle, std::string_view source) : pickle_(pickle), source_(source) {}

  TorchState read() && {
    for (const PickleValue& value : pickle_.values)
      if (value.kind == PickleKind::kPersistent) add_storage(value);
    const PickleValue& root = pickle_.at(pickle_.root);
    if (is_dict(root))
      for (const auto& [key, value] : entries(root)) add_tensor(key, pickle_.at(value));
    else if (root.kind == PickleKind::kObject)
      add_module("", root, 0);
    else
      fail("", "expected a state dict or a module");
    check_total();
    return std::move(state_);
  }

 private:
  template <class... Args>
  [[noreturn]] void fail(std::string_view name, fmt::format_string<Args...> format,
                         Args&&... args) const {
    throw Error("{}: {}{}", source_, name.empty() ? "" : fmt::format("\"{}\": ", name),
                fmt::format(format, std::forward<Args>(args)...));
  }

  bool is_call_of(const PickleValue& value, std::string_view function) const {
    return value.kind == PickleKind::kCall && pickle_.at(value.callee).text == function;
  }

  bool is_dict(const PickleValue& value) const {
    return value.kind == PickleKind::kDict || is_call_of(value, kOrderedDict);
  }

  /// The keys and values of a dictionary; the keys are parts of tensors' names. A dictionary that
  /// is shared counts as often as it is visited, so that small files cannot take long.
  std::vector<std::pair<std::string, Index>> entries(const PickleValue& dict) {
    visited_ += dict.items.size() / 2;
    if (visited_ > kMaxEntries) fail("", "more than {} entries in its dictionaries", kMaxEntries);
    std::vector<std::pair<std::string, Index>> found;
    std::set<std::string_view> keys;
    for (size_t i = 0; i < dict.items.size(); i += 2) {
      const PickleValue& key = pickle_.at(dict.items[i]);
      const bool is_plain =
          key.kind == PickleKind::kText && !key.text.empty() && key.text.size() <= kMaxKeyBytes &&
          std::ranges::all_of(key.text, [](char c) { return c > ' ' && c < '\x7f'; });
      if (!is_plain)
        fail("", "expected keys of 1 to {} ASCII characters in its dictionaries", kMaxKeyBytes);
      if (!keys.insert(key.text).second) fail(key.text, "appears twice");
      found.emplace_back(key.text, dict.items[i + 1]);
    }
    return found;
  }

  /// ("storage", type, key, device, number of elements), and in the container before PyTorch 1.6 a
  /// view of another storage, which today's PyTorch does not write either.
  void add_storage(const PickleValue& reference) {
    const std::vector<Index>& id = pickle_.at(reference.arguments).items;
    const auto is = [&](size_t i, PickleKind kind) { return pickle_.at(id[i]).kind == kind; };
    if ((id.size() != 5 && id.size() != 6) || pickle_.at(id[0]).text != "storage" ||
        !is(1, PickleKind::kStorageType) || !is(2, PickleKind::kText) ||
        pickle_.at(id[2]).text.size() > kMaxKeyBytes || !is(4, PickleKind::kInteger) ||
        (id.size() == 6 && !is(5, PickleKind::kNone)))
      fail("", "found a persistent ID that is not a storage");
    const std::string key(pickle_.at(id[2]).text);
    const TorchStorage storage{.dtype = std::string(pickle_.at(id[1]).text),
                               .size = pickle_.at(id[4]).integer};
    if (storage.size < 0 || storage.size > kMaxStorageElements)
      fail("", "storage {:?}: found {} elements, expected 0 to {}", key, storage.size,
           kMaxStorageElements);
    const auto [known, is_new] = state_.storages.emplace(key, storage);
    if (!is_new && known->second != storage)
      fail("", "storage {:?}: found with two different types or sizes", key);
  }

  /// @param name  of the module, ending in a dot unless it is empty
  void add_module(const std::string& name, const PickleValue& module, size_t depth) {
    if (depth > kMaxModuleDepth || name.size() > kMaxNameBytes)
      fail(name, "more than {} modules within each other, or a name of more than {} bytes",
           kMaxModuleDepth, kMaxNameBytes);
    for (const auto& [key, index] : entries(pickle_.at(module.state))) {
      const PickleValue& value = pickle_.at(index);
      if (value.kind == PickleKind::kNumber) state_.numbers.emplace(name + key, value.number);
      const bool has_tensors = key == "_parameters" || key == "_buffers";
      if (!has_tensors && key != "_modules") continue;
      if (!is_dict(value)) fail(name + key, "expected a dictionary");
      for (const auto& [member, member_index] : entries(value)) {
        const PickleValue& content = pickle_.at(member_index);
        if (content.kind == PickleKind::kNone) continue;
        if (has_tensors)
          add_tensor(name + member, content);
        else if (content.kind == PickleKind::kObject)
          add_module(name + member + ".", content, depth + 1);
        else
          fail(name + member, "expected a module");
      }
    }
  }

  void add_tensor(const std::string& name, const PickleValue& given) {
    const PickleValue* value = &given;
    if (is_call_of(*value, kRebuildParameter)) value = &argument(name, *value, 0);
    if (!is_call_of(*value, kRebuildTensor)) fail(name, "expected a tensor");
    const PickleValue& storage = argument(name, *value, 0);
    const PickleValue& offset = argument(name, *value, 1);
    if (storage.kind != PickleKind::kPersistent || offset.kind != PickleKind::kInteger)
      fail(name, "expected a storage and an offset");
    TorchTensor tensor{
        .name = name,
        .storage = std::string(pickle_.at(pickle_.at(storage.arguments).items[2]).text),
        .offset = offset.integer,
        .shape = sizes(name, argument(name, *value, 2)),
        .strides = sizes(name, argument(name, *value, 3))};
    check_view(tensor);
    check_metadata(name, pickle_.at(value->arguments));
    if (!names_.insert(name).second) fail(name, "appears twice");
    state_.tensors.push_back(std::move(tensor));
  }

  /// PyTorch may add a dictionary of metadata, such as that the numbers are negated.
  void check_metadata(const std::string& name, const PickleValue& arguments) const {
    if (arguments.items.size() <= 6) return;
    const PickleValue& metadata = pickle_.at(arguments.items[6]);
    const bool is_plain = metadata.kind == PickleKind::kNone || is_dict(metadata);
    if (arguments.items.size() > 7 || !is_plain || !metadata.items.empty())
      fail(name, "has metadata that may change what its numbers mean; expected a plain tensor");
  }

  const PickleValue& argument(const std::string& name, const PickleValue& call, size_t i) const {
    const std::vector<Index>& arguments = pickle_.at(call.arguments).items;
    if (i >= arguments.size()) fail(name, "is described by too few values");
    return pickle_.at(arguments[i]);
  }

  std::vector<int64_t> sizes(const std::string& name, const PickleValue& value) const {
    const auto is_size = [&](Index i) {
      return pickle_.at(i).kind == PickleKind::kInteger && pickle_.at(i).integer >= 0;
    };
    if (value.kind != PickleKind::kTuple || value.items.size() > kMaxDimensions ||
        !std::ranges::all_of(value.items, is_size))
      fail(name, "expected a shape and strides of up to {} numbers that are not negative",
           kMaxDimensions);
    std::vector<int64_t> numbers;
    for (const Index i : value.items) numbers.push_back(pickle_.at(i).integer);
    return numbers;
  }

  /// A view may not exceed its storage, nor have more elements than it.
  void check_view(const TorchTensor& tensor) {
    const TorchStorage& storage = state_.storages.at(tensor.storage);
    if (tensor.shape.size() != tensor.strides.size())
      fail(tensor.name, "found {} sizes and {} strides", tensor.shape.size(),
           tensor.strides.size());
    int64_t elements = 1, last = tensor.offset, step = 0;
    bool overflows = tensor.offset < 0;
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      const int64_t size = std::max<int64_t>(tensor.shape[i], 1);
      overflows |= __builtin_mul_overflow(elements, size, &elements) ||
                   __builtin_mul_overflow(size - 1, tensor.strides[i], &step) ||
                   __builtin_add_overflow(last, step, &last);
    }
    const bool is_empty = std::ranges::find(tensor.shape, 0) != tensor.shape.end();
    const bool exceeds =
        is_empty ? tensor.offset > storage.size : last >= storage.size || elements > storage.size;
    if (overflows || exceeds)
      fail(tensor.name, "does not fit into its storage {:?} of {} elements", tensor.storage,
           storage.size);
    if (!is_empty) bytes_of_tensors_ += elements * *safetensors_element_size(storage.dtype);
  }

  /// Many views of one large storage would cost more memory than the file has.
  void check_total() const {
    int64_t bytes = 0;
    for (const auto& [key, storage] : state_.storages) bytes += storage.byte_size();
    if (bytes_of_tensors_ > bytes)
      fail("", "its tensors have {} bytes, but their storages only {}", bytes_of_tensors_, bytes);
  }

  const Pickle& pickle_;
  std::string_view source_;
  TorchState state_;
  std::set<std::string> names_;
  size_t visited_ = 0;  ///< entries of dictionaries
  int64_t bytes_of_tensors_ = 0;
};

}  // namespace

int64_t TorchStorage::byte_size() const {
  return size * *safetensors_element_size(dtype);
}

TorchState read_torch_state(const Pickle& pickle, std::string_view source) {
  return StateReader(pickle, source).read();
}

}  // namespace dalle
