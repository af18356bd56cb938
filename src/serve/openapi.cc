#include "serve/openapi.h"

#include "base/json.h"
#include "serve/params.h"
#include "serve/routes.h"

namespace baize::serve {

namespace {

OrderedJson schema_of(const Param& param) {
  OrderedJson schema;
  switch (param.kind) {
    case Param::Kind::kBool:
      schema = {{"type", "boolean"}};
      break;
    case Param::Kind::kText:
      schema = {{"type", "string"}};
      break;
    case Param::Kind::kInteger:
      schema = {{"type", "integer"},
                {"minimum", static_cast<int64_t>(param.min)},
                {"maximum", static_cast<int64_t>(param.max)}};
      break;
    case Param::Kind::kNumber:
      schema = {{"type", "number"}, {"minimum", param.min}, {"maximum", param.max}};
      break;
    case Param::Kind::kOther:
      schema = param.only != nullptr ? OrderedJson{{"enum", parse_ordered_json(param.only, param.name)}}
                                     : parse_ordered_json(param.schema, param.name);
      break;
  }
  schema["description"] = param.help;
  return schema;
}

bool required(const Param& param, unsigned dialect) {
  const std::string_view name = param.name;
  return name == "tokens" || (dialect == kChat && name == "messages") || (dialect == kCompletion && name == "prompt");
}

OrderedJson body_of(unsigned dialect) {
  OrderedJson schema = {{"type", "object"}, {"properties", OrderedJson::object()}, {"additionalProperties", false}};
  OrderedJson needed = OrderedJson::array();
  for (const Param& param : params()) {
    if ((param.dialects & dialect) == 0) continue;
    schema["properties"][param.name] = schema_of(param);
    if (required(param, dialect)) needed.push_back(param.name);
  }
  if (!needed.empty()) schema["required"] = needed;
  return {{"required", true}, {"content", {{"application/json", {{"schema", schema}}}}}};
}

OrderedJson answers_of(const Route& route) {
  const std::string type = *route.answer == '\0' ? "application/json" : route.answer;
  OrderedJson ok = {{"description", route.summary}, {"content", {{type, OrderedJson::object()}}}};
  if ((route.dialect & (kChat | kCompletion)) != 0) ok["content"]["text/event-stream"] = OrderedJson::object();
  OrderedJson answers = {{"200", ok}};
  const auto error = [&](const char* status, const char* why) {
    answers[status] = {{"description", why},
                       {"content", {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}};
  };
  if (route.dialect != 0) error("400", "The request is wrong; param names the parameter");
  if (!route.open) error("401", "A key is missing or wrong");
  if (route.dialect != 0 || std::string_view(route.path).ends_with("*")) error("404", "There is no such model");
  if (route.dialect != 0) {
    error("413", "The body is too large");
    error("429", "Too many requests wait; Retry-After tells when to try again");
    error("503", "The server is shutting down");
  }
  return answers;
}

OrderedJson document(const std::string& version) {
  OrderedJson paths = OrderedJson::object();
  for (const Route& route : routes()) {
    std::string path = route.path;
    OrderedJson operation = {{"summary", route.summary}, {"operationId", std::string(route.method) + " " + path}};
    if (path.ends_with("*")) {
      path.replace(path.size() - 1, 1, "{name}");
      operation["parameters"] = OrderedJson::array(
          {{{"name", "name"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
    }
    if (route.dialect != 0) operation["requestBody"] = body_of(route.dialect);
    if (route.open) operation["security"] = OrderedJson::array();
    operation["responses"] = answers_of(route);
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c + ('a' - 'A'));
    paths[path][method] = operation;
  }
  const OrderedJson error = {{"type", "object"},
                             {"required", {"error"}},
                             {"properties",
                              {{"error",
                                {{"type", "object"},
                                 {"required", {"message", "type", "param", "code"}},
                                 {"properties",
                                  {{"message", {{"type", "string"}}},
                                   {"type", {{"type", "string"}}},
                                   {"param", {{"type", {"string", "null"}}}},
                                   {"code", {{"type", {"string", "null"}}}}}}}}}}};
  return {{"openapi", "3.1.0"},
          {"info", {{"title", "Baize"}, {"version", version}}},
          {"paths", paths},
          {"components",
           {{"schemas", {{"Error", error}}}, {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
          {"security", OrderedJson::array({{{"key", OrderedJson::array()}}})}};
}

std::string html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '&':
        out += "&amp;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string values_of(const Param& param) {
  switch (param.kind) {
    case Param::Kind::kBool:
      return "true or false";
    case Param::Kind::kText:
      return "text";
    case Param::Kind::kInteger:
      return fmt::format("whole number, {} to {}", param.min, param.max);
    case Param::Kind::kNumber:
      return fmt::format("number, {} to {}", param.min, param.max);
    case Param::Kind::kOther:
      break;
  }
  return param.only != nullptr ? param.only : param.schema;
}

constexpr const char* kPageHead = R"(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Baize: the interface</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color-scheme: light dark; }
  code { font-size: .9em; overflow-wrap: anywhere; }
  table { border-collapse: collapse; width: 100%; }
  td, th { border-top: 1px solid #8886; padding: .3em .6em .3em 0; text-align: left; vertical-align: top; }
  td:nth-child(2) { width: 35%; }
  h2 code { background: #8883; padding: .1em .4em; border-radius: 4px; }
</style>
)";

}  // namespace

std::string openapi_json(const std::string& version) { return document(version).dump(); }

std::string openapi_page(const std::string& version) {
  std::string out = kPageHead;
  out += fmt::format(
      "<h1>Baize {}: the interface</h1>\n<p>What OpenAI's clients speak, and some more. "
      "<a href=\"openapi.json\">As an OpenAPI document</a>. Errors are "
      "<code>{{\"error\": {{\"message\", \"type\", \"param\", \"code\"}}}}</code>.</p>\n",
      html(version));
  for (const Route& route : routes()) {
    out += fmt::format("<h2><code>{} {}</code></h2>\n<p>{}.{}</p>\n", route.method, html(route.path),
                       html(route.summary), route.open ? "" : " Needs a key where the server has one.");
    if (route.dialect == 0) continue;
    out += "<table><tr><th>Parameter<th>Value<th>Meaning\n";
    for (const Param& param : params()) {
      if ((param.dialects & route.dialect) == 0) continue;
      out += fmt::format("<tr><td><code>{}</code>{}<td><code>{}</code><td>{}\n", param.name,
                         required(param, route.dialect) ? " (needed)" : "", html(values_of(param)), html(param.help));
    }
    out += "</table>\n";
  }
  return out + "</html>\n";
}

}  // namespace baize::serve
