#include "checkpoint/manifest.h"

#include "core/error.h"

#include <nlohmann/json.hpp>

namespace dalle {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSum = "manifest_sha256";

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

Manifest parse_manifest(const Json& entries) {
  Manifest manifest;
  manifest.step = entries.at("step").get<int64_t>();
  if (!entries.at("score").is_null()) manifest.score = entries.at("score").get<double>();
  for (const auto& [name, file] : entries.at("files").items())
    manifest.files[name] = {.size = file.at("size").get<int64_t>(),
                            .sha256 = file.at("sha256").get<std::string>()};
  return manifest;
}

/// The SHA-256 of all other entries, regardless of their formatting.
std::string sum_of(Json entries) {
  entries.erase(kSum);
  return sha256(entries.dump());
}

}  // namespace

std::string format_manifest(const Manifest& manifest) {
  Json json = {{"format_version", Manifest::kFormatVersion}, {"step", manifest.step}};
  json["score"] = manifest.score ? Json(*manifest.score) : Json(nullptr);
  json["files"] = Json::object();
  for (const auto& [name, digest] : manifest.files)
    json["files"][name] = {{"size", digest.size}, {"sha256", digest.sha256}};
  json[kSum] = sum_of(json);
  return json.dump(2) + "\n";
}

bool is_checkpoint(const std::filesystem::path& path) {
  return std::filesystem::exists(path / Manifest::kFileName);
}

std::string manifest_hash(const std::filesystem::path& checkpoint) {
  return sha256_of_file(checkpoint / Manifest::kFileName);
}

Manifest read_manifest(const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / Manifest::kFileName;
  if (!std::filesystem::is_directory(checkpoint))
    throw Error("{}: not a checkpoint: no such folder", checkpoint.string());
  const Json json = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) throw Error("{}: corrupt: not a JSON object", path.string());
  if (const auto version = json.find("format_version");
      version != json.end() && *version != Manifest::kFormatVersion)
    throw Error("{}: checkpoint of format version {}; this program reads version {}", path.string(),
                version->dump(), Manifest::kFormatVersion);
  Manifest manifest;
  std::string sum;
  try {
    manifest = parse_manifest(json);
    sum = json.at(kSum).get<std::string>();
  } catch (const Json::exception&) {
    throw Error("{}: corrupt: an entry is missing or has the wrong type", path.string());
  }
  if (sum != sum_of(json))
    throw Error("{}: corrupt: its content does not match its own SHA-256", path.string());
  for (const auto& [name, digest] : manifest.files)
    if (!is_plain_name(name))
      throw Error("{}: lists a file outside the checkpoint: {}", path.string(), Json(name).dump());
  return manifest;
}

void verify_file(const std::filesystem::path& checkpoint, const Manifest& manifest,
                 const std::string& name) {
  const std::filesystem::path path = checkpoint / name;
  const FileDigest found = digest_of_file(path);
  const FileDigest& expected = manifest.files.at(name);
  if (found.size != expected.size)
    throw Error("{}: {}: {} bytes, expected {}", path.string(),
                found.size < expected.size ? "truncated" : "corrupt", found.size, expected.size);
  if (found.sha256 != expected.sha256)
    throw Error("{}: corrupt: its SHA-256 differs from the one in {}", path.string(),
                Manifest::kFileName);
}

}  // namespace dalle
