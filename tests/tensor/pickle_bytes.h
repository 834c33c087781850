#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/bytes.h"

namespace dalle {

/// Parts of pickles of protocol 2, by pickletools' names of their instructions.
namespace pickle {

inline const std::string kProto = "\x80\x02";
inline const std::string kStop = ".";

inline std::string text(const std::string& value) {
  return 'X' + integer_bytes(static_cast<uint32_t>(value.size()), ByteOrder::kLittle) + value;
}

inline std::string integer(int64_t value) {
  return std::string("\x8a\x08") + integer_bytes(static_cast<uint64_t>(value), ByteOrder::kLittle);
}

inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}

inline std::string tuple(const std::string& items) {
  return "(" + items + "t";
}

inline std::string integers(const std::vector<int64_t>& values) {
  std::string items;
  for (const int64_t value : values) items += integer(value);
  return tuple(items);
}

inline std::string dict(const std::string& items) {
  return "}(" + items + "u";
}

inline const std::string kOrderedDictCall = global("collections", "OrderedDict") + ")R";

inline std::string storage(int64_t size, const std::string& key = "0",
                           const std::string& type = "FloatStorage") {
  return tuple(text("storage") + global("torch", type) + text(key) + text("cpu") + integer(size)) +
         "Q";
}

/// @param of  the storage
inline std::string tensor(const std::string& of, int64_t offset, const std::vector<int64_t>& shape,
                          const std::vector<int64_t>& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") +
         tuple(of + integer(offset) + integers(shape) + integers(strides) + "\x89" +
               kOrderedDictCall) +
         "R";
}

inline std::string parameter(const std::string& of) {
  return global("torch._utils", "_rebuild_parameter") + tuple(of + "\x89" + kOrderedDictCall) + "R";
}

/// A module with these attributes, which are keys and values.
inline std::string module(const std::string& attributes) {
  return global("torch.nn.modules.container", "Sequential") + ")\x81" + dict(attributes) + "b";
}

inline std::string file(const std::string& value) {
  return kProto + value + kStop;
}

}  // namespace pickle
}  // namespace dalle
