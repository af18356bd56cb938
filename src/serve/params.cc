#include "serve/params.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/json.h"
#include "base/text.h"
#include "serve/api_error.h"
#include "serve/messages.h"

namespace baize::serve {

namespace {

using Kind = Param::Kind;

constexpr double kMaxExact = 9007199254740992;  // 2^53
constexpr double kMaxTokens = 1 << 30;
constexpr size_t kMaxStops = 64;
constexpr size_t kMaxPrompts = 256;
constexpr unsigned kGenerate = kChat | kCompletion;

// What a value is called in sentences.
std::string shown(const OrderedJson& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "a list";
  std::string text = value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

// For JSON 5.0 is as whole a number as 5.
bool is_whole(const OrderedJson& value) {
  return value.is_number_integer() || (value.is_number() && value.get<double>() == std::floor(value.get<double>()));
}

Token token_of(const char* name, const OrderedJson& value) {
  const double number = is_whole(value) ? value.get<double>() : -1;
  if (number >= 0 && number <= std::numeric_limits<Token>::max()) return value.get<Token>();
  bad_request(name, "'{}' takes token ids, whole numbers from 0, not {}", name, shown(value));
}

std::vector<Token> tokens_of(const char* name, const OrderedJson& list) {
  std::vector<Token> ids;
  ids.reserve(list.size());
  for (const OrderedJson& id : list) ids.push_back(token_of(name, id));
  return ids;
}

void set_prompt(ApiParams& params, const OrderedJson& value) {
  const auto one = [](const OrderedJson& each) {
    Prompt prompt;
    if (each.is_string()) {
      prompt.text = each.get<std::string>();
    } else if (each.is_array()) {
      prompt.ids = tokens_of("prompt", each);
      prompt.is_ids = true;
    } else {
      bad_request("prompt", "'prompt' is a text, a list of token ids, or a list of those, not {}", shown(each));
    }
    return prompt;
  };
  const bool list = value.is_array() && !value.empty() && !value.front().is_number();
  if (!list) {
    params.prompts.push_back(one(value));
    return;
  }
  if (value.size() > kMaxPrompts) {
    bad_request("prompt", "'prompt' holds {} prompts, but at most {} are allowed", value.size(), kMaxPrompts);
  }
  for (const OrderedJson& each : value) params.prompts.push_back(one(each));
}

// Of /tokenize.
void set_one_prompt(ApiParams& params, const OrderedJson& value) {
  if (value.is_array() && !value.empty() && !value.front().is_number()) {
    bad_request("prompt", "'prompt' is one text here, or a list of token ids");
  }
  set_prompt(params, value);
}

void set_stop(ApiParams& params, const OrderedJson& value) {
  if (!value.is_string() && !value.is_array()) bad_request("stop", "'stop' is a text or a list of texts");
  const OrderedJson list = value.is_string() ? OrderedJson::array({value}) : value;
  if (list.size() > kMaxStops)
    bad_request("stop", "'stop' holds {} texts, but at most {} are allowed", list.size(), kMaxStops);
  for (const OrderedJson& stop : list) {
    if (!stop.is_string()) bad_request("stop", "'stop' is a text or a list of texts; one of them is {}", shown(stop));
    if (stop.get_ref<const std::string&>().empty())
      bad_request("stop", "'stop' holds an empty text, which would stop at once");
    params.stop.push_back(stop.get<std::string>());
  }
}

void set_logit_bias(ApiParams& params, const OrderedJson& value) {
  if (!value.is_object())
    bad_request("logit_bias", "'logit_bias' is an object such as {{\"50256\": -100}}, not {}", shown(value));
  for (const auto& [key, bias] : value.items()) {
    Token token = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || token < 0) {
      bad_request("logit_bias", "the keys of 'logit_bias' are token ids, but one is \"{}\"", key.substr(0, 60));
    }
    if (!bias.is_number() || std::abs(bias.get<double>()) > 100) {
      bad_request("logit_bias", "'logit_bias' of token {} must be a number from -100 to 100, not {}", token,
                  shown(bias));
    }
    params.logit_bias.push_back({token, bias.get<float>()});
  }
}

void set_stream_options(ApiParams& params, const OrderedJson& value) {
  if (!value.is_object()) bad_request("stream_options", "'stream_options' is an object, not {}", shown(value));
  for (const auto& [key, option] : value.items()) {
    if (key != "include_usage")
      bad_request("stream_options." + key, "'stream_options.{}' is not known; include_usage is", key.substr(0, 60));
    if (option.is_null()) continue;
    if (!option.is_boolean())
      bad_request("stream_options.include_usage", "'stream_options.include_usage' is true or false, not {}",
                  shown(option));
    params.include_usage = option.get<bool>();
  }
}

void set_template_kwargs(ApiParams& params, const OrderedJson& value) {
  if (!value.is_object())
    bad_request("chat_template_kwargs", "'chat_template_kwargs' is an object, not {}", shown(value));
  for (const char* own : {"messages", "tools", "add_generation_prompt"}) {
    if (value.contains(own)) bad_request("chat_template_kwargs", "'chat_template_kwargs' may not set \"{}\"", own);
  }
  params.template_kwargs = value.dump();
}

void set_logprobs(ApiParams& params, const OrderedJson& value) {
  params.logprobs = true;
  params.top_logprobs = value.get<int64_t>();
}

void check_metadata(ApiParams&, const OrderedJson& value) {
  if (!value.is_object()) bad_request("metadata", "'metadata' is an object, not {}", shown(value));
}

void set_model(ApiParams& params, const OrderedJson& value) {
  params.model = value.get<std::string>();
  if (params.model.empty()) bad_request("model", "'model' is empty: leave it out for the first one that is served");
}

// Schemas of parameters that are no plain values. Each also allows null, which is as if absent (serve/openapi.cc).
constexpr const char* kStopSchema = R"({"oneOf":[{"type":"string","minLength":1},)"
                                    R"({"type":"array","items":{"type":"string","minLength":1},"maxItems":64}]})";
constexpr const char* kPromptSchema =
    R"({"anyOf":[{"type":"string"},{"type":"array","items":{"$ref":"#/components/schemas/TokenId"}},)"
    R"({"type":"array","items":{"anyOf":[{"type":"string"},)"
    R"({"type":"array","items":{"$ref":"#/components/schemas/TokenId"}}]},"maxItems":256}]})";
constexpr const char* kOnePromptSchema =
    R"({"oneOf":[{"type":"string"},{"type":"array","items":{"$ref":"#/components/schemas/TokenId"}}]})";
constexpr const char* kIdsSchema = R"({"type":"array","items":{"$ref":"#/components/schemas/TokenId"}})";
constexpr const char* kMessagesSchema =
    R"({"type":"array","minItems":1,"items":{"$ref":"#/components/schemas/Message"}})";
constexpr const char* kLogitBiasSchema = R"({"type":"object","propertyNames":{"pattern":"^[0-9]{1,9}$"},)"
                                         R"("additionalProperties":{"type":"number","minimum":-100,"maximum":100}})";
constexpr const char* kTemplateKwargsSchema =
    R"({"type":"object","propertyNames":{"not":{"enum":["messages","tools","add_generation_prompt"]}}})";
constexpr const char* kStreamOptionsSchema =
    R"({"type":"object","properties":{"include_usage":{"type":["boolean","null"]}},"additionalProperties":false})";

template <auto kMember>
void assign(ApiParams& params, const OrderedJson& value) {
  params.*kMember = value.get<std::remove_reference_t<decltype(params.*kMember)>>();
}

void set_max_tokens(ApiParams& params, const OrderedJson& value) { params.max_tokens = value.get<int64_t>(); }

void set_best_of(ApiParams& params, const OrderedJson& value) { params.best_of = value.get<int64_t>(); }

// Negative ones, too, are fine for OpenAI.
void set_seed(ApiParams& params, const OrderedJson& value) {
  params.seed = static_cast<uint64_t>(value.get<int64_t>()) & ((uint64_t{1} << 53) - 1);
}

void set_messages(ApiParams& params, const OrderedJson& value) { params.messages = check_messages(value); }

void set_tokens(ApiParams& params, const OrderedJson& value) {
  if (!value.is_array()) bad_request("tokens", "'tokens' is a list of token ids, not {}", shown(value));
  params.tokens = tokens_of("tokens", value);
}

// Everything but the sampling parameters, which engine/sampling.h lists.
constexpr Param kParams[] = {
    {.name = "model",
     .dialects = kGenerate | kTokenize | kDetokenize,
     .kind = Kind::kText,
     .help = "the model's name; absent: the first one served",
     .set = set_model},
    {.name = "messages",
     .dialects = kChat | kTokenize,
     .kind = Kind::kOther,
     .help = "the conversation",
     .set = set_messages,
     .schema = kMessagesSchema},
    {.name = "prompt",
     .dialects = kCompletion,
     .kind = Kind::kOther,
     .help = "a text to continue, a list of token ids, or a list of those",
     .set = set_prompt,
     .schema = kPromptSchema},
    {.name = "prompt",
     .dialects = kTokenize,
     .kind = Kind::kOther,
     .help = "a text, or the token ids themselves",
     .set = set_one_prompt,
     .schema = kOnePromptSchema},
    {.name = "tokens",
     .dialects = kDetokenize,
     .kind = Kind::kOther,
     .help = "token ids",
     .set = set_tokens,
     .schema = kIdsSchema},
    {.name = "add_special_tokens",
     .dialects = kTokenize,
     .kind = Kind::kBool,
     .help = "begin and end tokens of the vocabulary around a prompt",
     .set = assign<&ApiParams::add_special_tokens>},
    {.name = "add_generation_prompt",
     .dialects = kTokenize,
     .kind = Kind::kBool,
     .help = "what opens the answer, behind the messages",
     .set = assign<&ApiParams::add_generation_prompt>},
    {.name = "stream",
     .dialects = kGenerate,
     .kind = Kind::kBool,
     .help = "server-sent events, token by token",
     .set = assign<&ApiParams::stream>},
    {.name = "stream_options",
     .dialects = kGenerate,
     .kind = Kind::kOther,
     .help = "include_usage: a last event tells the usage",
     .set = set_stream_options,
     .schema = kStreamOptionsSchema},
    {.name = "max_tokens",
     .dialects = kChat,
     .kind = Kind::kInteger,
     .help = "longest answer in tokens; absent: until the context is full",
     .min = 1,
     .max = kMaxTokens,
     .set = set_max_tokens},
    {.name = "max_tokens",
     .dialects = kCompletion,
     .kind = Kind::kInteger,
     .help = "longest answer in tokens; absent: until the context is full; 0 with echo: the prompt alone",
     .max = kMaxTokens,
     .set = set_max_tokens},
    {.name = "max_completion_tokens",
     .dialects = kChat,
     .kind = Kind::kInteger,
     .help = "the newer name of max_tokens",
     .min = 1,
     .max = kMaxTokens,
     .set = set_max_tokens},
    {.name = "min_tokens",
     .dialects = kGenerate,
     .kind = Kind::kInteger,
     .help = "shortest answer in tokens",
     .max = kMaxTokens,
     .set = assign<&ApiParams::min_tokens>},
    {.name = "n",
     .dialects = kGenerate,
     .kind = Kind::kInteger,
     .help = "answers to each prompt",
     .min = 1,
     .max = 128,
     .set = assign<&ApiParams::n>},
    {.name = "best_of",
     .dialects = kCompletion,
     .kind = Kind::kInteger,
     .help = "answers made, of which the n likeliest are given",
     .min = 1,
     .max = 128,
     .set = set_best_of},
    {.name = "stop",
     .dialects = kGenerate,
     .kind = Kind::kOther,
     .help = "texts that end an answer",
     .set = set_stop,
     .schema = kStopSchema},
    {.name = "seed",
     .dialects = kGenerate,
     .kind = Kind::kInteger,
     .help = "the same seed gives the same answer",
     .min = -kMaxExact,
     .max = kMaxExact,
     .set = set_seed},
    {.name = "logprobs",
     .dialects = kChat,
     .kind = Kind::kBool,
     .help = "how likely every token of the answer was",
     .set = assign<&ApiParams::logprobs>},
    {.name = "top_logprobs",
     .dialects = kChat,
     .kind = Kind::kInteger,
     .help = "the likeliest alternatives of every token; needs logprobs",
     .max = 20,
     .set = assign<&ApiParams::top_logprobs>},
    {.name = "logprobs",
     .dialects = kCompletion,
     .kind = Kind::kInteger,
     .help = "how likely every token was, and so many alternatives",
     .max = 20,
     .set = set_logprobs},
    {.name = "echo",
     .dialects = kCompletion,
     .kind = Kind::kBool,
     .help = "the answer begins with the prompt",
     .set = assign<&ApiParams::echo>},
    {.name = "logit_bias",
     .dialects = kGenerate,
     .kind = Kind::kOther,
     .help = "added to the logits of tokens, by token id",
     .set = set_logit_bias,
     .schema = kLogitBiasSchema},
    {.name = "ignore_eos",
     .dialects = kGenerate,
     .kind = Kind::kBool,
     .help = "do not stop where the model ends its answer",
     .set = assign<&ApiParams::ignore_eos>},
    {.name = "chat_template_kwargs",
     .dialects = kChat | kTokenize,
     .kind = Kind::kOther,
     .help = "variables of the chat template, such as enable_thinking",
     .set = set_template_kwargs,
     .schema = kTemplateKwargsSchema},
    {.name = "return_token_ids",
     .dialects = kGenerate,
     .kind = Kind::kBool,
     .help = "the ids of prompt and answer, too",
     .set = assign<&ApiParams::return_token_ids>},
    {.name = "priority",
     .dialects = kGenerate,
     .kind = Kind::kInteger,
     .help = "higher ones run first",
     .min = -100,
     .max = 100,
     .set = assign<&ApiParams::priority>},
    {.name = "user", .dialects = kGenerate, .kind = Kind::kText, .help = "who asks; not used"},
    {.name = "safety_identifier", .dialects = kChat, .kind = Kind::kText, .help = "who asks; not used"},
    {.name = "metadata",
     .dialects = kGenerate,
     .kind = Kind::kOther,
     .help = "notes of the client; not used",
     .set = check_metadata,
     .schema = R"({"type":"object"})"},
    {.name = "store", .dialects = kChat, .kind = Kind::kOther, .help = "nothing is stored", .only = "[false]"},
    {.name = "response_format",
     .dialects = kChat,
     .kind = Kind::kOther,
     .help = "text only",
     .only = R"([{"type":"text"}])"},
    {.name = "tools", .dialects = kChat, .kind = Kind::kOther, .help = "not supported yet", .only = "[[]]"},
    {.name = "tool_choice",
     .dialects = kChat,
     .kind = Kind::kOther,
     .help = "not supported yet",
     .only = R"(["none","auto"])"},
    {.name = "modalities", .dialects = kChat, .kind = Kind::kOther, .help = "text only", .only = R"([["text"]])"},
};

std::vector<Param> make_params() {
  std::vector<Param> all(std::begin(kParams), std::end(kParams));
  const auto stop =
      std::find_if(all.begin(), all.end(), [](const Param& p) { return std::string_view(p.name) == "stop"; });
  std::vector<Param> sampling;
  for (const SamplingField& field : sampling_fields()) {
    if (std::string_view(field.name) == "seed") continue;  // above, with OpenAI's range
    sampling.push_back({.name = field.name,
                        .dialects = kGenerate,
                        .kind = field.integer ? Kind::kInteger : Kind::kNumber,
                        .help = field.help,
                        .min = field.min,
                        .max = field.max,
                        .field = &field});
  }
  all.insert(stop, sampling.begin(), sampling.end());
  return all;
}

// Exact also for integers that no double holds.
bool in_range(const Param& param, const OrderedJson& value) {
  if (value.is_number_unsigned() && param.kind == Kind::kInteger) {
    return param.max >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(param.max) &&
           static_cast<double>(value.get<uint64_t>()) >= param.min;
  }
  if (value.is_number_integer() && param.kind == Kind::kInteger) {
    return value.get<int64_t>() >= static_cast<int64_t>(param.min) &&
           value.get<int64_t>() <= static_cast<int64_t>(param.max);
  }
  return value.get<double>() >= param.min && value.get<double>() <= param.max;
}

void check_kind(const Param& param, const OrderedJson& value) {
  const auto wrong = [&](const std::string& expected) {
    bad_request(param.name, "'{}' must be {}, not {}", param.name, expected, shown(value));
  };
  switch (param.kind) {
    case Kind::kBool:
      if (!value.is_boolean()) wrong("true or false");
      return;
    case Kind::kText:
      if (!value.is_string()) wrong("a text");
      return;
    case Kind::kInteger:
    case Kind::kNumber: {
      const bool integer = param.kind == Kind::kInteger;
      const bool right = integer ? is_whole(value) : value.is_number();
      if (!right || !in_range(param, value)) {
        wrong(fmt::format("{} from {} to {}", integer ? "a whole number" : "a number", param.min, param.max));
      }
      return;
    }
    case Kind::kOther:
      return;
  }
}

void check_only(const Param& param, const OrderedJson& value) {
  const OrderedJson allowed = parse_ordered_json(param.only, param.name);
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  throw ApiError(400, "unsupported_parameter", param.name,
                 fmt::format("'{}' is not supported yet, except {}", param.name, allowed.front().dump()));
}

void take(const Param& param, const OrderedJson& value, ApiParams& out) {
  if (param.only != nullptr) return check_only(param, value);
  check_kind(param, value);
  if (param.field != nullptr) {
    out.sampling.emplace_back(param.field, value.get<double>());
  } else if (param.set != nullptr) {
    param.set(out, value);
  }
}

[[noreturn]] void refuse_unknown(const std::string& name, Dialect dialect) {
  std::vector<std::string> known;
  for (const Param& param : params()) {
    if ((param.dialects & dialect) != 0) known.emplace_back(param.name);
  }
  const std::string shown_name = name.substr(0, 60);
  throw ApiError(400, "unknown_parameter", shown_name,
                 fmt::format("the parameter '{}' is not supported; the closest are {}", shown_name,
                             fmt::join(closest_names(name, known), ", ")));
}

// What no parameter can tell alone.
void check_together(const ApiParams& p, Dialect dialect) {
  const auto needs = [&](const char* name) {
    throw ApiError(400, "missing_required_parameter", name, fmt::format("the request needs '{}'", name));
  };
  if (dialect == kChat && p.messages.empty()) needs("messages");
  if (dialect == kCompletion && p.prompts.empty()) needs("prompt");
  if (dialect == kDetokenize && !p.tokens.has_value()) needs("tokens");
  if (dialect == kTokenize && p.messages.empty() == p.prompts.empty()) {
    bad_request("prompt", "give either 'prompt' or 'messages'");
  }
  if (dialect == kChat && p.top_logprobs > 0 && !p.logprobs)
    bad_request("top_logprobs", "'top_logprobs' needs 'logprobs': true");
  if (p.include_usage && !p.stream) bad_request("stream_options", "'stream_options' needs 'stream': true");
  if (p.best_of.has_value() && *p.best_of < p.n)
    bad_request("best_of", "'best_of' ({}) must be at least 'n' ({})", *p.best_of, p.n);
  if (p.best_of.value_or(p.n) > p.n && p.stream)
    bad_request("best_of", "'best_of' above 'n' cannot be streamed: which answers are best shows at the end");
  if (p.max_tokens == 0 && !p.echo)
    bad_request("max_tokens", "'max_tokens' must be at least 1, not 0, unless 'echo' is true");
  if (p.max_tokens.has_value() && p.min_tokens > *p.max_tokens) {
    bad_request("min_tokens", "'min_tokens' ({}) must be at most 'max_tokens' ({})", p.min_tokens, *p.max_tokens);
  }
  const int64_t answers = p.best_of.value_or(p.n) * static_cast<int64_t>(std::max<size_t>(p.prompts.size(), 1));
  if (answers > static_cast<int64_t>(kMaxPrompts)) {
    bad_request("n", "the request asks for {} answers, but at most {} are allowed", answers, kMaxPrompts);
  }
}

}  // namespace

std::span<const Param> params() {
  static const std::vector<Param> all = make_params();
  return all;
}

ApiParams parse_params(std::string_view body, Dialect dialect) {
  OrderedJson json;
  try {
    json = parse_ordered_json(body, "the body");
  } catch (const Error& error) {
    throw ApiError(400, "invalid_json", "", error.what());
  }
  if (!json.is_object()) throw ApiError(400, "invalid_json", "", "the body must be a JSON object, not " + shown(json));
  ApiParams out;
  for (const auto& [name, value] : json.items()) {
    const std::string& key = name;
    const auto known = std::find_if(params().begin(), params().end(), [&](const Param& param) {
      return (param.dialects & dialect) != 0 && key == param.name;
    });
    if (known == params().end()) refuse_unknown(key, dialect);
    if (!value.is_null()) take(*known, value, out);  // null: as if absent
  }
  check_together(out, dialect);
  return out;
}

}  // namespace baize::serve
