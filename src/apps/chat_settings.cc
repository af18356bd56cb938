#include "apps/chat_settings.h"

#include <charconv>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"

namespace baize::apps {

namespace {

constexpr double kMaxTokens = 1 << 30;

double parse_number(std::string_view name, std::string_view text) {
  double value = 0;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec == std::errc() && parsed.ptr == end && !text.empty()) return value;
  fail(ErrorKind::kInvalidArgument, "{} takes a number, not \"{}\"", name, text);
}

int64_t parse_count(std::string_view name, std::string_view text, double least) {
  const double value = parse_number(name, text);
  if (value >= least && value <= kMaxTokens && value == static_cast<double>(static_cast<int64_t>(value))) {
    return static_cast<int64_t>(value);
  }
  fail(ErrorKind::kInvalidArgument, "{} must be a whole number from {} to {}, not {}", name, least, kMaxTokens, text);
}

bool is_off(std::string_view value) { return value.empty() || value == "off" || value == "none"; }

// A setting that is no sampling parameter.
struct Setting {
  const char* name;
  const char* help;
  std::string (*show)(const ChatSettings&);
  void (*set)(ChatSettings&, std::string_view);
};

constexpr Setting kSettings[] = {
    {"system", "the system message; off: the model's own",
     [](const ChatSettings& s) { return s.system.empty() ? std::string("off") : s.system; },
     [](ChatSettings& s, std::string_view value) { s.system = is_off(value) ? "" : std::string(value); }},
    {"think", "whether models that can think before they answer do: on, off or auto",
     [](const ChatSettings& s) {
       return std::string(!s.think.has_value() ? "auto" : *s.think ? "on" : "off");
     },
     [](ChatSettings& s, std::string_view value) {
       if (value != "on" && value != "off" && value != "auto") {
         fail(ErrorKind::kInvalidArgument, "think is on, off or auto, not \"{}\"", value);
       }
       s.think = value == "auto" ? std::nullopt : std::optional<bool>(value == "on");
     }},
    {"seed", "the same seed gives the same answers; off: another one every time",
     [](const ChatSettings& s) { return s.seed.has_value() ? std::to_string(*s.seed) : "off"; },
     [](ChatSettings& s, std::string_view value) {
       if (is_off(value)) return s.seed.reset();
       const double number = parse_number("seed", value);
       check_sampling_value(*find_sampling_field("seed"), number);
       s.seed = static_cast<uint64_t>(number);
     }},
    {"max_tokens", "longest answer in tokens; off: as long as the context",
     [](const ChatSettings& s) { return s.max_tokens.has_value() ? std::to_string(*s.max_tokens) : "off"; },
     [](ChatSettings& s, std::string_view value) {
       s.max_tokens = is_off(value) ? std::nullopt : std::optional(parse_count("max_tokens", value, 1));
     }},
    {"min_tokens", "shortest answer in tokens", [](const ChatSettings& s) { return std::to_string(s.min_tokens); },
     [](ChatSettings& s, std::string_view value) { s.min_tokens = parse_count("min_tokens", value, 0); }},
    {"stop", "a text that ends an answer; off: none",
     [](const ChatSettings& s) { return s.stop.empty() ? "off" : Json(s.stop).dump(); },
     [](ChatSettings& s, std::string_view value) {
       s.stop.clear();
       if (!is_off(value)) s.stop.emplace_back(value);
     }},
};

bool is_seed(const SamplingField& field) { return std::string_view(field.name) == "seed"; }  // kSettings has it

}  // namespace

std::vector<SettingLine> list_settings(const ChatSettings& settings) {
  std::vector<SettingLine> lines;
  for (const SamplingField& field : sampling_fields()) {
    if (is_seed(field)) continue;
    const double value = field.get(settings.sampling);
    lines.push_back({field.name, field.integer ? fmt::format("{:.0f}", value) : fmt::format("{:.6g}", value),
                     fmt::format("{} ({:g} to {:g})", field.help, field.min, field.max)});
  }
  for (const Setting& setting : kSettings) lines.push_back({setting.name, setting.show(settings), setting.help});
  return lines;
}

void change_setting(ChatSettings& settings, std::string_view name, std::string_view value) {
  for (const Setting& setting : kSettings) {
    if (name == setting.name) return setting.set(settings, value);
  }
  if (const SamplingField* field = find_sampling_field(name)) {
    const double number = parse_number(name, value);
    check_sampling_value(*field, number);
    return field->set(settings.sampling, number);
  }
  std::vector<std::string> known;
  for (const SettingLine& line : list_settings(settings)) known.push_back(line.name);
  fail(ErrorKind::kInvalidArgument, "there is no setting \"{}\"; the closest are {}", name,
       fmt::join(closest_names(name, known), ", "));
}

void add_variable(ChatSettings& settings, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  if (equals == 0 || equals == std::string::npos) {
    fail(ErrorKind::kInvalidArgument, "--var takes NAME=VALUE, such as date=2026-01-31, not \"{}\"", assignment);
  }
  const std::string value = assignment.substr(equals + 1);
  settings.variables[assignment.substr(0, equals)] = Json::accept(value) ? value : Json(value).dump();
}

}  // namespace baize::apps
