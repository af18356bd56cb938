// Tokenizer::from_folder: the files of the Hugging Face layout.

#include <filesystem>
#include <map>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "text/bridge.h"
#include "text/tokenizer.h"

namespace baize {
namespace {

namespace fs = std::filesystem;

const char* const kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                    "pad_token", "cls_token", "mask_token"};

/// The JSON object in a file of the folder; empty without that file.
Json optional_object(const fs::path& path) {
  if (!fs::exists(path)) return Json::object();
  try {
    // Not parse_json: its limit of depth takes a second on the 6,000 added tokens that some files have.
    Json json = Json::parse(read_file(path.string()));
    if (!json.is_object()) fail(ErrorKind::kCorrupt, "{}: expected a JSON object", path.string());
    return json;
  } catch (const Json::exception& e) {
    fail(ErrorKind::kCorrupt, "{}: not valid JSON: {}", path.string(), e.what());
  }
}

/// The text of a token given as "text" or {"content": "text", ...}; empty for anything else.
std::string token_content(const Json& token) {
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object()) return token.value("content", Json()).is_string() ? token["content"].get<std::string>() : "";
  return {};
}

/// Special tokens by name; additional ones under "additional_special_tokens" are special without a name.
struct SpecialTokens {
  std::map<std::string, std::string> by_name;
  std::vector<std::string> all;

  void add(const std::string& name, const Json& token) {
    const std::string content = token_content(token);
    if (content.empty()) return;
    all.push_back(content);
    if (!name.empty()) by_name.emplace(name, content);
  }

  void read(const Json& config) {
    for (const char* name : kNamedTokens) {
      if (config.contains(name)) add(name, config[name]);
    }
    for (const char* list : {"additional_special_tokens", "extra_special_tokens"}) {
      if (!config.contains(list)) continue;
      for (const auto& [name, token] : config[list].items()) add(config[list].is_object() ? name : "", token);
    }
  }
};

/// "added_tokens_decoder": {"id": token}, by ascending id, as the crate reads added tokens.
Json added_tokens(const Json& config) {
  std::map<long, Json> by_id;
  const Json added = config.value("added_tokens_decoder", Json::object());
  for (const auto& [id, token] : added.items()) {
    const std::string content = token_content(token);
    if (content.empty() || !token.is_object()) continue;
    Json entry{{"content", content}};
    for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized", "special"}) {
      const auto value = token.find(flag);
      entry[flag] = value != token.end() && value->is_boolean() && value->get<bool>();
    }
    by_id[std::strtol(id.c_str(), nullptr, 10)] = std::move(entry);
  }
  Json list = Json::array();
  for (auto& [id, entry] : by_id) list.push_back(std::move(entry));
  return list;
}

/// Chat templates: chat_template.jinja and additional_chat_templates/NAME.jinja, or chat_template.json, or the key
/// "chat_template" of tokenizer_config.json (a text, or a list of {"name", "template"}).
std::map<std::string, std::string> read_chat_templates(const fs::path& folder, const Json& config) {
  std::map<std::string, std::string> templates;
  const auto add = [&](const Json& value) {
    if (value.is_string()) templates.emplace("default", value.get<std::string>());
    if (!value.is_array()) return;
    for (const Json& entry : value) {
      if (entry.is_object() && entry.value("name", Json()).is_string() && entry.value("template", Json()).is_string()) {
        templates.emplace(entry["name"].get<std::string>(), entry["template"].get<std::string>());
      }
    }
  };
  if (fs::exists(folder / "chat_template.jinja")) {
    templates.emplace("default", read_file((folder / "chat_template.jinja").string()));
  }
  if (const fs::path more = folder / "additional_chat_templates"; fs::is_directory(more)) {
    for (const auto& entry : fs::directory_iterator(more)) {
      if (entry.path().extension() == ".jinja") {
        templates.emplace(entry.path().stem().string(), read_file(entry.path().string()));
      }
    }
  }
  add(optional_object(folder / "chat_template.json").value("chat_template", Json()));
  add(config.value("chat_template", Json()));
  return templates;
}

}  // namespace

Tokenizer Tokenizer::from_folder(const std::string& folder) {
  const fs::path path = fs::path(folder) / "tokenizer.json";
  if (!fs::exists(path)) {
    fail(ErrorKind::kNotFound,
         "{} has no tokenizer.json; models with another kind of tokenizer must be converted first", folder);
  }
  const Json config = optional_object(fs::path(folder) / "tokenizer_config.json");
  SpecialTokens special;
  special.read(config);
  special.read(optional_object(fs::path(folder) / "special_tokens_map.json"));

  Json options{{"added", added_tokens(config)}, {"special", special.all}};
  for (const char* side : {"bos", "eos"}) {
    const std::string name = std::string(side) + "_token";
    if (special.by_name.contains(name)) options[side] = special.by_name[name];
    const auto add = config.find("add_" + name);
    if (add != config.end() && add->is_boolean()) options[std::string("add_") + side] = *add;
  }

  baize_tokenizer* handle = nullptr;
  bridge::Buffer error;
  const std::string json = read_file(path.string());
  const auto status = baize_tokenizer_from_json(bridge::view(json), bridge::view(options.dump()), &handle, error.out());
  if (status != BAIZE_TEXT_OK) fail(ErrorKind::kCorrupt, "{}: {}", path.string(), error.text());

  Tokenizer tokenizer(handle);
  tokenizer.special_tokens_ = special.by_name;
  tokenizer.chat_templates_ = read_chat_templates(folder, config);
  const auto id_of_named = [&](const char* name) {
    const auto found = special.by_name.find(name);
    return found == special.by_name.end() ? std::nullopt : tokenizer.id_of(found->second);
  };
  tokenizer.set_begin_and_end(id_of_named("bos_token"), id_of_named("eos_token"), {});
  return tokenizer;
}

}  // namespace baize
