// ChatSettings: what shapes the answers of a chat, and changing it by name: `/set NAME VALUE` and the options of `baize
// run`. Plain data; main thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/sampling.h"

namespace baize::apps {

struct ChatSettings {
  SamplingParams sampling;
  std::optional<uint64_t> seed;  // absent: another one every answer
  std::optional<int64_t> max_tokens;
  int64_t min_tokens = 0;
  std::vector<std::string> stop;                 // strings that end an answer
  std::string system;                            // first message; empty: what the template puts there itself
  std::optional<bool> think;                     // the template variable enable_thinking
  std::map<std::string, std::string> variables;  // further template variables, as JSON texts
};

struct SettingLine {
  std::string name, value, help;
};

/// Every setting as people read and write it, in the order of /help.
std::vector<SettingLine> list_settings(const ChatSettings& settings);

/// Throws Error(kInvalidArgument) for an unknown name (with the closest ones) or a value out of its range.
void change_setting(ChatSettings& settings, std::string_view name, std::string_view value);

/// NAME=VALUE of a template variable; VALUE is JSON, or else a text. Throws Error(kInvalidArgument) without a name.
void add_variable(ChatSettings& settings, const std::string& assignment);

}  // namespace baize::apps
