// EngineConfig: how a model is loaded and run, and the one table of those settings from which command line options and
// environment variables come. Plain data; any thread.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace baize {

struct EngineConfig {
  std::string backend = "auto";
  std::string compute = "auto";
  std::string load = "auto";
  std::string dummy_format = "bf16";
  int64_t threads = 0;
  int64_t ctx = 0;
  int64_t parallel = 0;
  int64_t queue = 0;
  int64_t cache = 0;
  int64_t step = 0;
  std::string gpu_memory{};
  bool deterministic = false;
  std::string quantize = "none";
};

/// One setting: text, a whole number, or a flag.
struct ConfigField {
  const char* name;  // "ctx": the option --ctx and the variable BAIZE_CTX
  const char* help;
  std::string EngineConfig::* text = nullptr;
  const char* choices = "";  // of a text, separated by '|'; empty: any
  int64_t EngineConfig::* number = nullptr;
  int64_t max = 0;  // of a number; the least is 0, which leaves the choice to the program
  bool EngineConfig::* flag = nullptr;
};

std::span<const ConfigField> config_fields();

/// The bytes of "80%" of `total`, "20GiB", "20GB", "500MiB" or "21474836480". Throws Error(kInvalidArgument).
int64_t parse_memory(const std::string& text, int64_t total);

}  // namespace baize
