#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <string>

#include "base/error.h"

namespace baize {

void init_logging(std::string_view level) {
  const auto parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    fail(ErrorKind::kInvalidArgument, "log level \"{}\" is not one of debug, info, warn, error, off", level);
  }
  static auto logger = [] {
    auto made = spdlog::stderr_color_mt("baize");
    made->set_pattern("%H:%M:%S %^%l%$ %v");
    spdlog::set_default_logger(made);
    return made;
  }();
  logger->set_level(parsed);
}

}  // namespace baize
