#include "serve/messages.h"

#include "base/json.h"
#include "serve/api_error.h"

namespace baize::serve {

namespace {

std::string join_parts(const OrderedJson& parts, const std::string& where) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    const OrderedJson& part = parts[i];
    const std::string at = fmt::format("{}[{}]", where, i);
    if (!part.is_object() || !part.contains("type") || !part["type"].is_string()) {
      bad_request(at, "'{}' must be a part such as {{\"type\": \"text\", \"text\": \"...\"}}", at);
    }
    if (part["type"] != "text") {
      throw ApiError(
          400, "unsupported_value", at,
          fmt::format("'{}' has the type {}, but only text is supported yet", at, part["type"].dump().substr(0, 60)));
    }
    if (!part.contains("text") || !part["text"].is_string()) bad_request(at, "'{}' has no text", at);
    if (i > 0) text += '\n';
    text += part["text"].get_ref<const std::string&>();
  }
  return text;
}

OrderedJson check_message(const OrderedJson& message, const std::string& at) {
  if (!message.is_object()) bad_request(at, "'{}' must be an object with role and content", at);
  if (!message.contains("role") || !message["role"].is_string()) bad_request(at + ".role", "'{}' has no role", at);
  const std::string role = message["role"];
  const bool known = role == "system" || role == "developer" || role == "user" || role == "assistant";
  if (role == "tool" || role == "function") {
    throw ApiError(400, "unsupported_value", at + ".role",
                   fmt::format("'{}': the role {} is not supported yet", at, role));
  }
  if (!known) bad_request(at + ".role", "'{}': the role must be system, developer, user or assistant", at);
  OrderedJson out = {{"role", role == "developer" ? "system" : role}, {"content", ""}};
  for (const auto& [name, value] : message.items()) {
    const std::string where = at + "." + name.substr(0, 60);
    if (name == "role" || value.is_null()) continue;
    if (name == "content") {
      if (!value.is_string() && !value.is_array()) bad_request(where, "'{}' must be a text or a list of parts", where);
      out["content"] = value.is_string() ? value.get<std::string>() : join_parts(value, where);
    } else if (name == "name" || name == "reasoning_content") {
      if (!value.is_string()) bad_request(where, "'{}' must be a text", where);
      out[name] = value;
    } else if ((name == "tool_calls" || name == "annotations") && value.is_array() && value.empty()) {
      continue;  // what clients send back of an answer
    } else {
      throw ApiError(400, "unknown_parameter", where, fmt::format("'{}' is not supported", where));
    }
  }
  const bool missing = !message.contains("content") || message["content"].is_null();
  if (missing && role != "assistant") bad_request(at + ".content", "'{}' has no content", at);
  return out;
}

}  // namespace

std::string check_messages(const OrderedJson& messages) {
  if (!messages.is_array() || messages.empty()) {
    bad_request("messages", "'messages' must be a list of at least one message");
  }
  OrderedJson out = OrderedJson::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    out.push_back(check_message(messages[i], fmt::format("messages[{}]", i)));
  }
  return out.dump();
}

}  // namespace baize::serve
