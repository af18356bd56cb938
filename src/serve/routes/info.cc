// What the server says of itself: /v1/models, /health, /version, /metrics.
#include <fmt/format.h>

#include "serve/json_text.h"
#include "serve/routes.h"

namespace baize::serve::routes_impl {

namespace {

void append_model(std::string& out, const ServedModel& model, const std::string& name) {
  out += "{\"id\":";
  append_json(out, name);
  fmt::format_to(std::back_inserter(out),
                 ",\"object\":\"model\",\"created\":{},\"owned_by\":\"baize\",\"max_model_len\":{}}}", model.created,
                 model.engine->context());
}

// Of a label's value: backslashes, quotes and line breaks escaped.
std::string label_value(const std::string& text) {
  std::string out;
  append_json(out, text);
  return out;
}

}  // namespace

std::unique_ptr<Task> models(const Api& api, const Request&, Reply& reply, const Wake&) {
  reply.body = "{\"object\":\"list\",\"data\":[";
  bool first = true;
  for (const ServedModel& model : api.models()) {
    const auto add = [&](const std::string& name) {
      if (!first) reply.body += ',';
      first = false;
      append_model(reply.body, model, name);
    };
    add(model.name);
    for (const std::string& alias : model.aliases) add(alias);
  }
  reply.body += "]}";
  return nullptr;
}

std::unique_ptr<Task> model(const Api& api, const Request& request, Reply& reply, const Wake&) {
  constexpr size_t kStem = std::string_view("/v1/models/").size();
  const std::string name = decode_path(request.path.substr(kStem));
  append_model(reply.body, find_served(api.models(), name), name);
  return nullptr;
}

std::unique_ptr<Task> health(const Api&, const Request&, Reply& reply, const Wake&) {
  reply.body = "{\"status\":\"ok\"}";
  return nullptr;
}

std::unique_ptr<Task> version(const Api& api, const Request&, Reply& reply, const Wake&) {
  reply.body = "{\"version\":";
  append_json(reply.body, api.version());
  reply.body += '}';
  return nullptr;
}

std::unique_ptr<Task> metrics(const Api& api, const Request&, Reply& reply, const Wake&) {
  std::string samples;
  api.metrics().write(samples);
  for (const ServedModel& model : api.models()) {
    const std::string labels = "model=" + label_value(model.name);
    model.metrics->write(samples, labels);
    write_engine_stats(samples, model.engine->stats(), labels);
  }
  reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
  reply.body = with_help(samples);
  return nullptr;
}

}  // namespace baize::serve::routes_impl
