// Descriptions of a model for people and scripts: what it computes, its weights and kernels, and what a token costs.
// Pure functions of a planned model; any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "engine/memory_plan.h"

namespace baize::apps {

/// Weights that differ only in their layer.
struct WeightGroup {
  std::string name;  // "layers.*.attn.q"
  WeightInfo first;
  int64_t count = 0;
  int64_t resident_bytes = 0;
};

std::vector<WeightGroup> group_weights(const Model& model);

/// "30 x attention of 9 heads ..., then feed-forward ...": one line a run of equal layers.
std::vector<std::string> describe_layers(const ModelSpec& spec);

/// "one / few / many rows" kernels, one name where they are the same; empty for a table that only is looked up in.
std::string kernel_names(const WeightInfo& weight);

/// Bytes that one more token takes in the caches that keep every token, and those of all window caches once full.
struct CacheBytes {
  int64_t per_token = 0;
  int64_t windows = 0;
};
CacheBytes cache_bytes(const Model& model);

}  // namespace baize::apps
