#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace dalle {

/// Limits of a pickle. OpenAI's encoder, a whole module, is a pickle of 60 kB with 6,000 values.
constexpr size_t kMaxPickleBytes = size_t{16} << 20;
constexpr size_t kMaxPickleValues = size_t{1} << 18;

enum class PickleKind {
  kNone,
  kBool,
  kInteger,
  kLongInteger,  ///< of more than 8 bytes
  kNumber,       ///< a float
  kText,
  kTuple,
  kList,
  kDict,
  kFunction,
  kClass,        ///< of a module
  kStorageType,  ///< of a storage
  kCall,         ///< of a function, which is not called
  kObject,       ///< of a class, which is not constructed
  kPersistent,   ///< what PyTorch stores outside the pickle: a storage
};

/// A value of a pickle. It refers to others by their index in Pickle::values; values may be shared,
/// and may contain themselves.
struct PickleValue {
  using Index = uint32_t;

  PickleKind kind = PickleKind::kNone;
  int64_t integer = 0;  ///< also of a kBool
  double number = 0;
  /// The content of a kText, whose bytes are not validated; "module.name" of a kFunction; the name
  /// of a kClass; the safetensors type of a kStorageType; the little-endian bytes of a
  /// kLongInteger.
  std::string_view text = {};
  Index callee = 0;     ///< the function of a kCall, the class of a kObject
  Index arguments = 0;  ///< a kTuple: of a kCall or kObject, or the ID of a kPersistent
  Index state = 0;      ///< the kDict of attributes of a kCall or kObject; 0 if there is none
  /// The elements of a kTuple or kList; alternating keys and values of a kDict or of a call of
  /// OrderedDict.
  std::vector<Index> items = {};
};

/// Functions that a pickle may name.
inline constexpr std::string_view kOrderedDict = "collections.OrderedDict";
inline constexpr std::string_view kRebuildTensor = "torch._utils._rebuild_tensor_v2";
inline constexpr std::string_view kRebuildParameter = "torch._utils._rebuild_parameter";

/// The content of a pickle as inert data.
struct Pickle {
  std::vector<PickleValue> values = {};  ///< the first is None
  PickleValue::Index root = 0;
  size_t size = 0;  ///< in bytes

  const PickleValue& at(PickleValue::Index index) const { return values.at(index); }
};

/// Reads the pickle at the start of `bytes`, which must outlive the result.
///
/// A pickle is a program for a stack machine, which can import and call anything. This reader
/// executes nothing: it knows only the instructions that build numbers, text and containers, and
/// those that name what PyTorch would call, which it records. It refuses all other instructions,
/// and all names but those that the tensors of state dicts and modules need.
///
/// @param source  names the bytes in messages
/// @throws dalle::Error naming the source, the byte and what was refused
/// Source: pickletools of the Python standard library, protocol 2
Pickle read_torch_pickle(std::string_view bytes, std::string_view source);

}  // namespace dalle
