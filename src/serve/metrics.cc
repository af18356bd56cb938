#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "base/text.h"

namespace baize::serve {

namespace {

constexpr double kLatencyBounds[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                                     0.5,   1,      2.5,   5,    10,    30,   60,  300};

struct Metric {
  const char* name;
  const char* type;
  const char* help;
};

// In the order in which they are shown.
constexpr Metric kMetrics[] = {
    {"baize_http_requests_total", "counter", "Requests that came."},
    {"baize_errors_total", "counter", "Requests that were refused or failed, by code."},
    {"baize_time_to_first_token_seconds", "histogram", "From a request's last byte to the first token of its answer."},
    {"baize_inter_token_seconds", "histogram", "Between two tokens of an answer."},
    {"baize_queue_seconds", "histogram", "From a request to its first step."},
    {"baize_request_seconds", "histogram", "From a request's last byte to the end of its answer."},
    {"baize_prompt_tokens_total", "counter", "Tokens of prompts."},
    {"baize_cached_prompt_tokens_total", "counter", "Tokens of prompts that were found in the cache."},
    {"baize_generated_tokens_total", "counter", "Tokens of answers."},
    {"baize_answers_total", "counter", "Answers that ended, by reason."},
    {"baize_requests_running", "gauge", "Sequences that take part in steps."},
    {"baize_requests_waiting", "gauge", "Requests that wait for their first step."},
    {"baize_cache_pages", "gauge", "Pages of the cache."},
    {"baize_cache_pages_used", "gauge", "Pages that running sequences hold."},
    {"baize_cache_pages_kept", "gauge", "Pages kept for later prompts only."},
    {"baize_engine_steps_total", "counter", "Steps of the engine."},
    {"baize_engine_rows_total", "counter", "Tokens that went through the model."},
    {"baize_engine_drawn_tokens_total", "counter", "Tokens drawn."},
    {"baize_preemptions_total", "counter", "Sequences whose pages were taken; they are computed again."},
};

void sample(std::string& out, const char* name, const std::string& labels, int64_t value) {
  out += name;
  if (!labels.empty()) fmt::format_to(std::back_inserter(out), "{{{}}}", labels);
  fmt::format_to(std::back_inserter(out), " {}\n", value);
}

std::string joined(const std::string& labels, const std::string& more) {
  return labels.empty() ? more : labels + "," + more;
}

}  // namespace

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
}

void Histogram::write(std::string& out, const char* name, const std::string& labels) const {
  const std::string bucket = std::string(name) + "_bucket";
  int64_t below = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    below += counts_[i];
    sample(out, bucket.c_str(), joined(labels, fmt::format("le=\"{}\"", bounds_[i])), below);
  }
  below += counts_[bounds_.size()];
  sample(out, bucket.c_str(), joined(labels, "le=\"+Inf\""), below);
  fmt::format_to(std::back_inserter(out), "{}_sum{{{}}} {}\n", name, labels, sum_.load());
  sample(out, (std::string(name) + "_count").c_str(), labels, below);
}

void LabelledCounter::add(const std::string& label) {
  const std::lock_guard lock(mutex_);
  ++counts_[label];
}

void LabelledCounter::write(std::string& out, const char* name, const char* label_name,
                            const std::string& labels) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [label, count] : counts_) {
    sample(out, name, joined(labels, fmt::format("{}=\"{}\"", label_name, label)), count);
  }
}

ModelMetrics::ModelMetrics()
    : first_token(kLatencyBounds), between_tokens(kLatencyBounds), queue(kLatencyBounds), request(kLatencyBounds) {}

void ModelMetrics::write(std::string& out, const std::string& labels) const {
  first_token.write(out, "baize_time_to_first_token_seconds", labels);
  between_tokens.write(out, "baize_inter_token_seconds", labels);
  queue.write(out, "baize_queue_seconds", labels);
  request.write(out, "baize_request_seconds", labels);
  sample(out, "baize_prompt_tokens_total", labels, prompt_tokens);
  sample(out, "baize_cached_prompt_tokens_total", labels, cached_tokens);
  sample(out, "baize_generated_tokens_total", labels, new_tokens);
  finished.write(out, "baize_answers_total", "reason", labels);
}

void ServiceMetrics::write(std::string& out) const {
  sample(out, "baize_http_requests_total", "", requests);
  errors.write(out, "baize_errors_total", "code", "");
}

void write_engine_stats(std::string& out, const EngineStats& stats, const std::string& labels) {
  sample(out, "baize_requests_running", labels, stats.running);
  sample(out, "baize_requests_waiting", labels, stats.waiting);
  sample(out, "baize_cache_pages", labels, stats.pages);
  sample(out, "baize_cache_pages_used", labels, stats.pages_used);
  sample(out, "baize_cache_pages_kept", labels, stats.pages_cached);
  sample(out, "baize_engine_steps_total", labels, stats.steps);
  sample(out, "baize_engine_rows_total", labels, stats.rows);
  sample(out, "baize_engine_drawn_tokens_total", labels, stats.drawn);
  sample(out, "baize_preemptions_total", labels, stats.preemptions);
}

// Samples of one metric must stand together, also those of several models.
std::string with_help(const std::string& text) {
  const std::vector<std::string_view> lines = split(text, '\n');
  std::string out;
  for (const Metric& metric : kMetrics) {
    bool any = false;
    for (const std::string_view line : lines) {
      if (!line.starts_with(metric.name)) continue;
      std::string_view rest = line.substr(std::string_view(metric.name).size());
      for (const std::string_view part : {"_bucket", "_sum", "_count"}) {
        if (rest.starts_with(part)) rest.remove_prefix(part.size());
      }
      if (!rest.starts_with('{') && !rest.starts_with(' ')) continue;  // a longer name
      if (!any) {
        fmt::format_to(std::back_inserter(out), "# HELP {} {}\n# TYPE {} {}\n", metric.name, metric.help, metric.name,
                       metric.type);
      }
      any = true;
      out += line;
      out += '\n';
    }
  }
  return out;
}

}  // namespace baize::serve
