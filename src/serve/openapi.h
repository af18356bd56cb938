// The OpenAPI document of the service and its page, made of the tables of routes and parameters. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace baize::serve {

/// What this server's document tells beside the tables.
struct OpenApiInfo {
  std::string version;
  std::vector<std::string> models;  // all their names
  int64_t vocab = 0;                // tokens of the largest vocabulary
  bool needs_key = false;
};

std::string openapi_json(const OpenApiInfo& info);
std::string openapi_page(const std::string& version);

}  // namespace baize::serve
