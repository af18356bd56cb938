// The OpenAPI document of the service and its page, made of the tables of routes and parameters. Any thread.
#pragma once

#include <string>

namespace baize::serve {

std::string openapi_json(const std::string& version);
std::string openapi_page(const std::string& version);

}  // namespace baize::serve
