#include "fuzz/fuzz.h"
#include "tensor/safetensors.h"
#include "tensor/torch_file.h"

namespace dalle {

/// Each storage has the bytes that it claims, and each tensor lies within its storage.
void fuzz(std::string_view input) {
  TorchFile file;
  if (!accepts([&] { file = read_torch_file(file_in_memory(input)); })) return;
  DALLE_CHECK(file.data.size() == file.state.storages.size());
  int64_t bytes = 0;
  for (const auto& [key, storage] : file.state.storages) {
    DALLE_CHECK(static_cast<int64_t>(file.data.at(key).size()) == storage.byte_size());
    bytes += storage.byte_size();
  }
  DALLE_CHECK(bytes <= static_cast<int64_t>(input.size()));
  for (const TorchTensor& tensor : file.state.tensors) {
    const TorchStorage& storage = file.state.storages.at(tensor.storage);
    DALLE_CHECK(tensor.offset >= 0 && tensor.shape.size() == tensor.strides.size());
    int64_t elements = 1, last = tensor.offset;
    for (size_t i = 0; i < tensor.shape.size(); ++i) {
      DALLE_CHECK(tensor.shape[i] >= 0 && tensor.strides[i] >= 0);
      elements *= tensor.shape[i];
      if (tensor.shape[i] > 0) last += (tensor.shape[i] - 1) * tensor.strides[i];
    }
    if (elements > 0) DALLE_CHECK(last < storage.size && elements <= storage.size);
    bytes -= elements * safetensors_element_size(storage.dtype).value();
  }
  DALLE_CHECK(bytes >= 0);
}

}  // namespace dalle
