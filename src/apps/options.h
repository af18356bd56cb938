// Command line options made from tables: the engine's settings (engine/config.h) and the sampling parameters
// (engine/sampling.h). Used while the command line is parsed; main thread.
#pragma once

#include <CLI/App.hpp>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "engine/config.h"
#include "engine/sampling.h"

namespace baize::apps {

/// The environment's BAIZE_NAME, then --name, fill `config`, which must outlive the parsing.
void add_engine_options(CLI::App& command, EngineConfig& config);

/// Sampling parameters that the user gave; the others keep the checkpoint's defaults.
struct SamplingOverrides {
  std::vector<std::pair<const SamplingField*, double>> values;
  std::vector<LogitBias> logit_bias;

  void apply(SamplingParams& params) const;
  bool has(std::string_view name) const;
};

/// --temperature, --top-p, ..., --logit-bias ID=BIAS. Values are checked when parsed.
void add_sampling_options(CLI::App& command, SamplingOverrides& overrides);

/// "--top-p" for "top_p".
std::string option_name(std::string_view field);

}  // namespace baize::apps
