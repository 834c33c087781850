#include "experiment/versions.h"

#include <ATen/Parallel.h>

#include "core/build_info.h"
#include "core/error.h"
#include "core/files.h"
#include "core/machine.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

Json current_versions() {
  const BuildInfo build = build_info();
  Json json = {{"dalle", build.version},
               {"git_revision", build.git_revision},
               {"build_type", build.build_type},
               {"compiler", build.compiler},
               {"libtorch", build.libtorch}};
  json["cuda"] = build.cuda.empty() ? Json(nullptr) : Json(build.cuda);
  json["cpu"] = this_processor().model;
  json["threads"] = at::get_num_threads();
  return json;
}

}  // namespace

void record_versions(const std::filesystem::path& path) {
  Json entries = Json::array();
  if (std::filesystem::exists(path)) {
    entries = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (!entries.is_array())
      throw Error("{}: expected a JSON list of versions; remove the file to continue",
                  path.string());
  }
  const Json now = current_versions();
  if (!entries.empty() && entries.back() == now) return;
  entries.push_back(now);
  write_file_atomically(path, entries.dump(2) + "\n");
}

}  // namespace dalle
