#include "apps/options.h"

#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/error.h"
#include "base/text.h"

namespace baize::apps {

std::string option_name(std::string_view field) {
  std::string name = "--" + std::string(field);
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

namespace {

std::string variable_name(std::string_view field) {
  std::string name = "BAIZE_";
  for (const char c : field) name += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

void check_choice(const ConfigField& field, const std::string& value) {
  if (*field.choices == '\0') return;
  const std::vector<std::string_view> choices = split(field.choices, '|');
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
  fail(ErrorKind::kInvalidArgument, "{} must be one of {}, not \"{}\"", option_name(field.name), field.choices, value);
}

void check_number(const ConfigField& field, int64_t value) {
  if (value >= 0 && value <= field.max) return;
  fail(ErrorKind::kInvalidArgument, "{} must be from 0 to {}, not {}", option_name(field.name), field.max, value);
}

// "17=-1.5"
LogitBias parse_bias(const std::string& text) {
  LogitBias bias{};
  const char* const end = text.data() + text.size();
  const auto token = std::from_chars(text.data(), end, bias.token);
  if (token.ec == std::errc() && token.ptr != end && *token.ptr == '=') {
    const auto value = std::from_chars(token.ptr + 1, end, bias.bias);
    if (value.ec == std::errc() && value.ptr == end) return bias;
  }
  fail(ErrorKind::kInvalidArgument, "--logit-bias takes ID=BIAS, such as 17=-1.5, not \"{}\"", text);
}

}  // namespace

void add_engine_options(CLI::App& command, EngineConfig& config) {
  for (const ConfigField& field : config_fields()) {
    CLI::Option* option = nullptr;
    if (field.text != nullptr) {
      const auto set = [&field, &config](const std::string& value) {
        check_choice(field, value);
        config.*field.text = value;
      };
      option = command.add_option_function<std::string>(option_name(field.name), set, field.help);
      option->type_name(*field.choices == '\0' ? "TEXT" : field.choices);
    } else if (field.flag != nullptr) {
      option = command.add_flag(option_name(field.name), config.*field.flag, field.help);
    } else {
      const auto set = [&field, &config](const int64_t& value) {
        check_number(field, value);
        config.*field.number = value;
      };
      option = command.add_option_function<int64_t>(option_name(field.name), set, field.help);
      option->type_name("N");
    }
    option->envname(variable_name(field.name))->take_last()->group("Engine");
  }
}

void SamplingOverrides::apply(SamplingParams& params) const {
  for (const auto& [field, value] : values) field->set(params, value);
  params.logit_bias.insert(params.logit_bias.end(), logit_bias.begin(), logit_bias.end());
}

bool SamplingOverrides::has(std::string_view name) const {
  return std::any_of(values.begin(), values.end(), [&](const auto& value) { return name == value.first->name; });
}

void add_sampling_options(CLI::App& command, SamplingOverrides& overrides) {
  for (const SamplingField& field : sampling_fields()) {
    const auto set = [&field, &overrides](const double& value) {
      check_sampling_value(field, value);
      overrides.values.emplace_back(&field, value);
    };
    command.add_option_function<double>(option_name(field.name), set, field.help)
        ->type_name(field.integer ? "N" : "X")
        ->take_last()
        ->group("Sampling");
  }
  const auto add_bias = [&overrides](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) overrides.logit_bias.push_back(parse_bias(text));
  };
  command.add_option_function<std::vector<std::string>>("--logit-bias", add_bias, "added to the logit of a token")
      ->type_name("ID=BIAS")
      ->delimiter(',')
      ->group("Sampling");
}

}  // namespace baize::apps
