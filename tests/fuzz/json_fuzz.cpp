#include <algorithm>
#include <string>

#include "core/utf8.h"
#include "data/text/captions.h"
#include "data/text/python_json.h"
#include "fuzz/fuzz.h"

#include <nlohmann/json.hpp>

namespace dalle {

/// Valid JSON stays as it is, and whatever comes out stays so too. Captions are UTF-8 without zero
/// bytes, whichever of the two readers they come from.
void fuzz(std::string_view input) {
  const std::string standard = standard_json(input);
  // nlohmann's parser takes a zero byte for the text's end, whatever follows.
  const bool is_json = input.find('\0') == std::string_view::npos && nlohmann::json::accept(input);
  DALLE_CHECK(!is_json || standard == input);
  DALLE_CHECK(standard_json(standard) == standard);
  for (const auto& parse : {parse_captions, parse_json_captions})
    accepts([&] {
      for (const std::string& caption : parse(input)) {
        DALLE_CHECK(first_invalid_utf8(caption) == caption.size());
        DALLE_CHECK(!caption.empty() && caption.find('\0') == std::string::npos);
      }
    });
}

}  // namespace dalle
