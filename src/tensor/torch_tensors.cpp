#include "tensor/torch_tensors.h"

#include <string_view>
#include <utility>

#include <torch/types.h>

#include "core/error.h"
#include "tensor/torch_file.h"

namespace dalle {

ForeignTensors read_foreign_tensors(const std::filesystem::path& path) {
  if (!is_torch_file(path)) return {.tensors = read_safetensors(path).tensors, .numbers = {}};
  TorchFile file = read_torch_file(path);
  ForeignTensors content{.tensors = {}, .numbers = std::move(file.state.numbers)};
  std::map<std::string, at::Tensor> storages;
  for (auto& [key, data] : file.data) {
    const std::string& dtype = file.state.storages.at(key).dtype;
    if (dtype == "BOOL" && data.find_first_not_of(std::string_view("\0\1", 2)) != data.npos)
      throw Error("{}: storage {:?}: has type BOOL, but contains bytes other than 0 and 1",
                  path.string(), key);
    storages[key] =
        torch::from_blob(data.data(), {file.state.storages.at(key).size}, type_of_dtype(dtype));
  }
  for (const TorchTensor& tensor : file.state.tensors)
    content.tensors.emplace_back(tensor.name,
                                 storages.at(tensor.storage)
                                     .as_strided(tensor.shape, tensor.strides, tensor.offset)
                                     .clone(at::MemoryFormat::Contiguous));
  return content;
}

}  // namespace dalle
