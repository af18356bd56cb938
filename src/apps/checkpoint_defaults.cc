#include "apps/checkpoint_defaults.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace baize::apps {

namespace {

// What users get where a checkpoint says nothing.
SamplingParams usual_sampling() {
  SamplingParams params;
  params.temperature = 0.7f;
  params.top_k = 40;
  params.top_p = 0.95f;
  return params;
}

struct Source {
  const Json& json;
  std::string where;  // file for messages

  const Json* find(const std::string& key) const {
    const auto it = json.find(key);
    return it == json.end() || it->is_null() ? nullptr : &*it;
  }
  [[noreturn]] void wrong(const std::string& key, const char* expected) const {
    fail(ErrorKind::kCorrupt, "{}: {} must be {}, not {}", where, key, expected, json.at(key).dump().substr(0, 60));
  }
};

// True when the checkpoint sets the parameter. Values that no request may have (temperature -1, top_k -1 for "off")
// say nothing.
bool take(const Source& source, const std::string& key, const char* name, SamplingParams& params) {
  const Json* value = source.find(key);
  if (value == nullptr) return false;
  if (!value->is_number()) source.wrong(key, "a number");
  const SamplingField& field = *find_sampling_field(name);
  const double number = value->get<double>();
  if (!(number >= field.min && number <= field.max)) return false;
  field.set(params, number);
  return true;
}

SamplingParams sampling_of(const Source& source, bool gguf) {
  struct Key {
    const char* hf;    // in generation_config.json; also the name of the field
    const char* gguf;  // null: GGUF has none
  };
  static constexpr Key kKeys[] = {
      {"temperature", "general.sampling.temp"},
      {"top_k", "general.sampling.top_k"},
      {"top_p", "general.sampling.top_p"},
      {"min_p", "general.sampling.min_p"},
      {"typical_p", nullptr},
      {"repetition_penalty", "general.sampling.penalty_repeat"},
      {"penalty_window", "general.sampling.penalty_last_n"},
  };
  SamplingParams params;
  bool any = false;
  for (const Key& key : kKeys) {
    const char* spelled = gguf ? key.gguf : key.hf;
    if (spelled != nullptr && take(source, spelled, key.hf, params)) any = true;
  }
  if (const Json* sample = source.find("do_sample");
      sample != nullptr && sample->is_boolean() && !sample->get<bool>()) {
    params.temperature = 0;
    return params;
  }
  return any ? params : usual_sampling();
}

void add_ids(const Source& source, const std::string& key, std::vector<Token>& ids) {
  const Json* value = source.find(key);
  if (value == nullptr) return;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (!id.is_number_integer()) source.wrong(key, "a token id or a list of them");
    const auto token = id.get<int64_t>();
    if (token < 0) continue;  // "none" in some files
    if (token > std::numeric_limits<Token>::max()) source.wrong(key, "a token id or a list of them");
    if (std::find(ids.begin(), ids.end(), static_cast<Token>(token)) == ids.end()) {
      ids.push_back(static_cast<Token>(token));
    }
  }
}

}  // namespace

CheckpointDefaults checkpoint_defaults(const Checkpoint& checkpoint) {
  CheckpointDefaults defaults;
  const Source metadata{checkpoint.metadata(), checkpoint.path()};
  if (checkpoint.kind() == Checkpoint::Kind::kGguf) {
    defaults.sampling = sampling_of(metadata, true);
    for (const char* key : {"eos", "eot", "eom"}) {
      add_ids(metadata, fmt::format("tokenizer.ggml.{}_token_id", key), defaults.stop_ids);
    }
    return defaults;
  }
  const Source generation{checkpoint.generation_config(), checkpoint.path() + "/generation_config.json"};
  const Source config{checkpoint.metadata(), checkpoint.path() + "/config.json"};
  defaults.sampling = sampling_of(generation, false);
  add_ids(generation, "eos_token_id", defaults.stop_ids);
  if (defaults.stop_ids.empty()) add_ids(config, "eos_token_id", defaults.stop_ids);
  return defaults;
}

}  // namespace baize::apps
