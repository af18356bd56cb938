// Logging to standard error through spdlog's default logger, configured once by init_logging. Any thread.
// Use log::info("..."), log::warn, log::error, log::debug with fmt arguments.
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>

namespace baize {

namespace log = spdlog;

/// Sends all logging to standard error at `level`: "debug", "info", "warn", "error" or "off".
/// Throws Error(kInvalidArgument) for another name.
void init_logging(std::string_view level);

}  // namespace baize
