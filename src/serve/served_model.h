#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "serve/engine/generation_engine.h"

namespace dalle {

/// A model under the name by which requests ask for it: that of its run folder.
struct ServedModel {
  std::string id;
  int64_t created = 0;  ///< seconds since 1970
  std::unique_ptr<GenerationEngine> engine;
};

}  // namespace dalle
