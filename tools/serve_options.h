#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"
#include "experiment/trained/reranker.h"
#include "generation_options.h"
#include "serve/engine/generation_engine.h"
#include "serve/http/http_server.h"

namespace dalle {

/// The command line of dalle-serve.
struct ServeOptions {
  std::vector<std::string> models;
  HttpServer::Options http;
  std::string public_url;
  std::string api_key_file;
  std::vector<std::string> origins;
  int64_t queued_images = EngineOptions{}.queued_images;
  std::string device = "auto";
  std::string reranker;
  std::optional<RankBy> rank_by;
  std::string runs;
  DecodeOptions decode;
};

void add_serve_options(CLI::App& app, ServeOptions& options);

/// The API keys of the file or the variable that the options name.
/// @throws dalle::Error if there is none, but other machines can reach the server
std::vector<std::string> find_api_keys(const ServeOptions& options);

}  // namespace dalle
