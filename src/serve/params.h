// ApiParams: what a request asks for, and the one table of request parameters: from it come parsing, checks, the
// sentences of errors and the OpenAPI document. Plain data; any thread.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/sampling.h"

namespace baize::serve {

using OrderedJson = nlohmann::ordered_json;

/// Bits: which requests know a parameter.
enum Dialect : unsigned { kChat = 1, kCompletion = 2, kTokenize = 4, kDetokenize = 8 };

/// One prompt: a text, or the token ids themselves.
struct Prompt {
  std::string text;
  std::vector<Token> ids;
  bool is_ids = false;
};

struct ApiParams {
  std::string model;            // empty: the first one
  std::string messages;         // JSON, checked; what the chat template gets
  std::vector<Prompt> prompts;  // of a completion
  std::string template_kwargs;  // JSON object, or empty
  bool stream = false;
  bool include_usage = false;
  int64_t n = 1;
  std::optional<int64_t> best_of;
  std::vector<std::string> stop;
  bool logprobs = false;
  int64_t top_logprobs = 0;  // alternatives a token
  bool echo = false;
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  bool ignore_eos = false;
  bool return_token_ids = false;
  int64_t priority = 0;
  std::optional<uint64_t> seed;
  std::vector<std::pair<const SamplingField*, double>> sampling;  // the others keep the model's defaults
  std::vector<LogitBias> logit_bias;
  // /tokenize and /detokenize
  bool add_special_tokens = true;
  bool add_generation_prompt = true;
  std::optional<std::vector<Token>> tokens;
};

/// One request parameter.
struct Param {
  enum class Kind { kBool, kInteger, kNumber, kText, kOther };

  const char* name;
  unsigned dialects;
  Kind kind;
  const char* help;
  double min = 0, max = 0;  // of numbers, both allowed
  /// Takes a value that has the right kind and range; throws ApiError for others. Empty: accepted, without effect.
  void (*set)(ApiParams&, const OrderedJson&) = nullptr;
  const SamplingField* field = nullptr;  // instead of `set`
  const char* schema = nullptr;          // JSON schema, for kOther
  const char* only = nullptr;            // a JSON list: of what is not supported yet, the values that change nothing
};

/// In the order of the documentation.
std::span<const Param> params();

/// Reads the JSON body of a request. Throws ApiError: 400 naming the parameter that is unknown, not supported, of the
/// wrong type or out of range.
ApiParams parse_params(std::string_view body, Dialect dialect);

}  // namespace baize::serve
