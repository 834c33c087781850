#include "fuzz/fuzz.h"
#include "tensor/safetensors.h"

namespace dalle {

/// Entries lie within the data and have the bytes that their shapes need; a header that is written
/// again reads back the same.
void fuzz(std::string_view input) {
  SafetensorsHeader header;
  if (!accepts([&] { header = read_safetensors_header(file_in_memory(input)); })) return;
  const auto data_size = static_cast<int64_t>(input.size()) - header.data_start;
  for (const SafetensorsEntry& entry : header.entries) {
    DALLE_CHECK(0 <= entry.begin && entry.begin <= entry.end && entry.end <= data_size);
    int64_t bytes = safetensors_element_size(entry.dtype).value();
    for (const int64_t size : entry.shape) bytes *= size;
    DALLE_CHECK(bytes == entry.end - entry.begin);
  }
  std::string written = format_safetensors_header(header);
  header.data_start = static_cast<int64_t>(written.size());
  written.append(static_cast<size_t>(data_size), '\0');
  DALLE_CHECK(read_safetensors_header(file_in_memory(written)) == header);
}

}  // namespace dalle
