// Parsed once for most layers and all tests: see baize_precompiled_headers in layers.cmake. Only headers of libraries.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

#ifdef BAIZE_SOURCE_DIR  // a test
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#endif
