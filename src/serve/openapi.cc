#include "serve/openapi.h"

#include <algorithm>

#include "base/json.h"
#include "serve/openapi_schemas.h"
#include "serve/params.h"
#include "serve/routes.h"

namespace baize::serve {

namespace {

bool required(const Param& param, unsigned dialect) {
  const std::string_view name = param.name;
  return name == "tokens" || (dialect == kChat && name == "messages") || (dialect == kCompletion && name == "prompt");
}

// Null is as if absent.
void allow_null(OrderedJson& schema) {
  const bool plain = schema.contains("enum") || schema.contains("type");
  if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  if (schema.contains("type")) schema["type"] = OrderedJson::array({schema["type"], "null"});
  if (!plain) schema = {{"anyOf", OrderedJson::array({schema, {{"type", "null"}}})}};
}

OrderedJson schema_of(const Param& param, bool needed, const OpenApiInfo& info) {
  OrderedJson schema;
  switch (param.kind) {
    case Param::Kind::kBool:
      schema = {{"type", "boolean"}};
      break;
    case Param::Kind::kText:
      schema = {{"type", "string"}};
      if (std::string_view(param.name) == "model") schema["enum"] = info.models;
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
  if (!needed) allow_null(schema);
  schema["description"] = param.help;
  return schema;
}

OrderedJson body_of(unsigned dialect, const OpenApiInfo& info) {
  OrderedJson schema = {{"type", "object"}, {"properties", OrderedJson::object()}, {"additionalProperties", false}};
  OrderedJson needed = OrderedJson::array();
  for (const Param& param : params()) {
    if ((param.dialects & dialect) == 0) continue;
    schema["properties"][param.name] = schema_of(param, required(param, dialect), info);
    if (required(param, dialect)) needed.push_back(param.name);
  }
  if (!needed.empty()) schema["required"] = needed;
  return {{"required", true}, {"content", {{"application/json", {{"schema", schema}}}}}};
}

OrderedJson reference(const std::string& schema) { return {{"$ref", "#/components/schemas/" + schema}}; }

OrderedJson answers_of(const Route& route, const OpenApiInfo& info) {
  const std::string answer = route.answer;
  const bool json = answer.find('/') == std::string::npos;
  OrderedJson ok = {{"description", route.summary}, {"content", OrderedJson::object()}};
  ok["content"][json ? "application/json" : answer]["schema"] =
      json ? reference(answer) : OrderedJson{{"type", "string"}};
  if ((route.dialect & (kChat | kCompletion)) != 0) {
    // OpenAPI 3.1 has no words for events: each is "data: " and the JSON of x-event, the last one "data: [DONE]".
    ok["content"]["text/event-stream"]["x-event"] = reference(answer + "Chunk");
  }
  OrderedJson answers = {{"200", ok}};
  const auto error = [&](const char* status, const char* why) {
    answers[status] = {{"description", why}, {"content", {{"application/json", {{"schema", reference("Error")}}}}}};
  };
  if (route.dialect != 0) error("400", "The request is wrong; param names the parameter");
  if (!route.open && info.needs_key) error("401", "A key is missing or wrong");
  if (route.dialect != 0 || std::string_view(route.path).ends_with('*')) error("404", "There is no such model");
  if (route.dialect != 0) {
    error("413", "The body is too large");
    error("429", "Too many requests wait; Retry-After tells when to try again");
    error("500", "The server failed to answer");
    error("503", "The server is shutting down, or has no memory left");
  }
  return answers;
}

// A schema of objects that have `one`, but not `other`.
OrderedJson needs_one(const char* one, const char* other) {
  return {{"required", {one}}, {"properties", {{one, {{"not", {{"type", "null"}}}}}, {other, {{"type", "null"}}}}}};
}

OrderedJson document(const OpenApiInfo& info) {
  OrderedJson paths = OrderedJson::object();
  for (const Route& route : routes()) {
    std::string path = route.path;
    OrderedJson operation = {{"summary", route.summary}, {"operationId", std::string(route.method) + " " + path}};
    if (path.ends_with('*')) {
      path.replace(path.size() - 1, 1, "{name}");
      operation["parameters"] = OrderedJson::array({{{"name", "name"},
                                                     {"in", "path"},
                                                     {"required", true},
                                                     {"schema", {{"type", "string"}, {"enum", info.models}}}}});
    }
    if (route.dialect != 0) operation["requestBody"] = body_of(route.dialect, info);
    if (route.open && info.needs_key) operation["security"] = OrderedJson::array();
    operation["responses"] = answers_of(route, info);
    std::string method = route.method;
    for (char& c : method) c = static_cast<char>(c + ('a' - 'A'));
    paths[path][method] = operation;
  }
  OrderedJson out = {{"openapi", "3.1.0"},
                     {"info", {{"title", "Baize"}, {"version", info.version}}},
                     {"paths", paths},
                     {"components", {{"schemas", parse_ordered_json(openapi_schemas(), "the schemas")}}}};
  out["components"]["schemas"]["TokenId"] = {{"type", "integer"}, {"minimum", 0}, {"maximum", info.vocab - 1}};
  if (info.needs_key) {
    out["components"]["securitySchemes"] = {{"key", {{"type", "http"}, {"scheme", "bearer"}}}};
    out["security"] = OrderedJson::array({{{"key", OrderedJson::array()}}});
  }
  // Either is enough for /tokenize, both are too much.
  out["paths"]["/tokenize"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"] =
      OrderedJson::array({needs_one("prompt", "messages"), needs_one("messages", "prompt")});
  return out;
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

std::string openapi_json(const OpenApiInfo& info) { return document(info).dump(); }

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
