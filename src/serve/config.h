// ServeConfig: how the service is offered, and the one table of those settings from which command line options,
// environment variables and the settings file come. Plain data; any thread.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "serve/http_server.h"

namespace baize::serve {

struct ServeConfig {
  HttpOptions http;
  std::vector<std::string> api_keys;  // none: everybody may ask
  std::vector<std::string> cors;      // origins whose pages may ask; "*": all
  std::vector<std::string> alias;     // names of the models, in their order
};

/// One setting: a text, texts, a whole number or seconds.
struct ServeField {
  const char* name;  // "api-key": the option --api-key, the variable BAIZE_API_KEY, the key api-key of a settings file
  const char* help;
  const char* type;  // "ADDRESS", as --help shows it
  std::string* (*text)(ServeConfig&) = nullptr;
  std::vector<std::string>* (*texts)(ServeConfig&) = nullptr;
  int64_t* (*number)(ServeConfig&) = nullptr;
  double* (*seconds)(ServeConfig&) = nullptr;
  double min = 0, max = 0;  // of numbers and seconds
};

std::span<const ServeField> serve_fields();

}  // namespace baize::serve
