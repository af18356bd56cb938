#include "apps/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/table.h"
#include "base/json.h"
#include "base/text.h"

namespace baize::apps {

namespace {

double percentile(std::vector<float>& values, double share) {
  const double at = share * static_cast<double>(values.size() - 1);
  const auto low = values.begin() + static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), low, values.end());
  const double part = at - std::floor(at);
  if (part == 0) return *low;
  return *low + part * (*std::min_element(low + 1, values.end()) - *low);
}

int64_t peak_of(const std::vector<LoadResult>& results) {
  std::vector<std::pair<double, int>> changes;
  for (const LoadResult& result : results) {
    if (result.state == LoadResult::kNotSent) continue;
    changes.emplace_back(result.start, +1);
    changes.emplace_back(result.end, -1);
  }
  std::sort(changes.begin(), changes.end());  // at the same time, ends come first
  int64_t now = 0, peak = 0;
  for (const auto& [time, change] : changes) peak = std::max(peak, now += change);
  return peak;
}

bool is_good(const LoadSetup& setup, const LoadResult& result) {
  const auto within = [](double seconds, double limit) { return limit <= 0 || 1e3 * seconds <= limit; };
  return within(result.first(), setup.slo_ttft) && within(result.per_token(), setup.slo_itl) &&
         within(result.seconds(), setup.slo_e2e);
}

std::string objectives(const LoadSetup& setup) {
  std::string text;
  const auto add = [&](const char* name, double limit) {
    if (limit > 0) text += fmt::format("{}{} {:g} ms", text.empty() ? "" : ", ", name, limit);
  };
  add("TTFT", setup.slo_ttft);
  add("TPOT", setup.slo_itl);
  add("E2E", setup.slo_e2e);
  return text;
}

void add_row(Table& table, const char* name, const Spread& spread) {
  if (spread.count == 0) return;
  const auto cell = [](double value) { return fmt::format("{:.{}f}", value, value < 100 ? 2 : value < 1000 ? 1 : 0); };
  table.add({name, cell(spread.mean), cell(spread.p50), cell(spread.p90), cell(spread.p99), cell(spread.max)});
}

Json spread_json(const Spread& spread) {
  if (spread.count == 0) return nullptr;
  return {{"mean", spread.mean}, {"p50", spread.p50}, {"p90", spread.p90}, {"p99", spread.p99}, {"max", spread.max}};
}

const char* state_name(LoadResult::State state) {
  switch (state) {
    case LoadResult::kOk:
      return "ok";
    case LoadResult::kFailed:
      return "failed";
    case LoadResult::kStopped:
      return "stopped";
    default:
      return "not sent";
  }
}

Json requests_json(const std::vector<LoadResult>& results) {
  Json list = Json::array();
  for (const LoadResult& result : results) {
    Json one = {{"state", state_name(result.state)}};
    if (result.state != LoadResult::kNotSent) {
      one["start"] = result.start;
      one["e2e_ms"] = 1e3 * result.seconds();
    }
    if (result.state == LoadResult::kOk) {
      one["ttft_ms"] = 1e3 * result.first();
      one["output_tokens"] = result.tokens();
      one["input_tokens"] = result.prompt_tokens >= 0 ? Json(result.prompt_tokens) : Json(nullptr);
    }
    if (result.state == LoadResult::kFailed) {
      one["failure"] = result.failure;
      one["message"] = result.sentence;
    }
    list.push_back(std::move(one));
  }
  return list;
}

}  // namespace

Spread spread_of(std::vector<float>& values) {
  Spread spread;
  spread.count = values.size();
  if (values.empty()) return spread;
  double sum = 0;
  for (const float value : values) sum += value;
  spread.mean = sum / static_cast<double>(values.size());
  spread.p50 = percentile(values, 0.5);
  spread.p90 = percentile(values, 0.9);
  spread.p99 = percentile(values, 0.99);
  spread.max = *std::max_element(values.begin(), values.end());
  return spread;
}

LoadSummary summarise(const LoadSetup& setup, const std::vector<LoadResult>& results) {
  LoadSummary summary;
  summary.requests = static_cast<int64_t>(results.size());
  std::vector<float> ttft, tpot, itl, e2e, late;
  double first = INFINITY, last = 0;
  for (const LoadResult& result : results) {
    if (result.state == LoadResult::kNotSent) continue;
    first = std::min(first, result.start);
    last = std::max(last, result.end);
    late.push_back(static_cast<float>(1e3 * (result.start - result.planned)));
    if (result.state == LoadResult::kStopped) ++summary.stopped;
    if (result.state == LoadResult::kFailed) {
      ++summary.failed;
      FailureCount& failure = summary.failures[result.failure];
      if (failure.count++ == 0) failure.first = result.sentence;
    }
    if (result.state != LoadResult::kOk) continue;
    ++summary.ok;
    summary.input_tokens += std::max<int64_t>(0, result.prompt_tokens);
    summary.cached_tokens += result.cached_tokens;
    summary.output_tokens += result.tokens();
    if (result.output_tokens >= 0 && result.output_tokens < result.wanted_tokens) ++summary.shorter;
    if (is_good(setup, result)) ++summary.good;
    e2e.push_back(static_cast<float>(1e3 * result.seconds()));
    if (!setup.streamed) continue;
    ttft.push_back(static_cast<float>(1e3 * result.first()));
    if (result.tokens() > 1) tpot.push_back(static_cast<float>(1e3 * result.per_token()));
    for (size_t i = 1; i < result.events.size(); ++i) {
      itl.push_back(static_cast<float>(result.events[i] - result.events[i - 1]) * 1e-3f);
    }
  }
  if (last > first) summary.seconds = last - first;
  summary.peak = peak_of(results);
  summary.ttft = spread_of(ttft);
  summary.tpot = spread_of(tpot);
  summary.itl = spread_of(itl);
  summary.e2e = spread_of(e2e);
  summary.late = spread_of(late);
  return summary;
}

std::string load_table(const LoadSetup& setup, const LoadSummary& summary) {
  std::string out = fmt::format("{} at {} ({}{})\n{}; {}\n\n", setup.model, setup.url, setup.endpoint,
                                setup.streamed ? ", streamed" : "", setup.load, setup.lengths);
  const auto line = [&](const char* name, const std::string& text) { out += fmt::format("{:<16}{}\n", name, text); };
  line("requests",
       fmt::format(
           "{} ok, {} failed{} in {:.2f} s; at most {} at a time", summary.ok, summary.failed,
           setup.interrupted ? fmt::format(", {} not finished", summary.requests - summary.ok - summary.failed) : "",
           summary.seconds, summary.peak));
  for (const auto& [kind, failure] : summary.failures) {
    out += fmt::format("  {} x {}: {}\n", failure.count, kind, failure.first);
  }
  if (summary.ok == 0) return out;
  const std::string cached =
      summary.cached_tokens > 0 ? fmt::format(" ({} cached)", human_count(summary.cached_tokens)) : "";
  line("input tokens", setup.counted ? human_count(summary.input_tokens) + cached : "not told by the server");
  line("output tokens", human_count(summary.output_tokens) + (setup.counted ? "" : " events (tokens are not told)"));
  if (summary.shorter > 0) line("", fmt::format("{} answers ended before the tokens asked for", summary.shorter));
  line("requests/s", fmt::format("{:.2f}", summary.per_second(summary.ok)));
  line("output tokens/s", fmt::format("{:.1f}", summary.per_second(summary.output_tokens)));
  line("total tokens/s", fmt::format("{:.1f}", summary.per_second(summary.input_tokens + summary.output_tokens)));
  if (setup.has_slo()) {
    line("goodput",
         fmt::format("{:.2f} requests/s: {:.1f} % of those sent met {}", summary.per_second(summary.good),
                     100.0 * static_cast<double>(summary.good) / static_cast<double>(summary.ok + summary.failed),
                     objectives(setup)));
  }
  Table table({"MILLISECONDS", ">MEAN", ">P50", ">P90", ">P99", ">MAX"});
  add_row(table, "TTFT   to the first token", summary.ttft);
  add_row(table, "TPOT   a token after it", summary.tpot);
  add_row(table, "ITL    between events", summary.itl);
  add_row(table, "E2E    whole answer", summary.e2e);
  if (summary.late.p99 >= 1 && setup.load.starts_with("open"))
    add_row(table, "late   sent after its time", summary.late);
  return out + "\n" + table.text();
}

nlohmann::json load_json(const LoadSetup& setup, const LoadSummary& summary, const std::vector<LoadResult>& results) {
  Json failures = Json::object();
  for (const auto& [kind, failure] : summary.failures) {
    failures[kind] = {{"count", failure.count}, {"first", failure.first}};
  }
  Json out = {{"url", setup.url},
              {"model", setup.model},
              {"endpoint", setup.endpoint},
              {"streamed", setup.streamed},
              {"load", setup.load},
              {"lengths", setup.lengths},
              {"seed", setup.seed},
              {"interrupted", setup.interrupted},
              {"duration_seconds", summary.seconds},
              {"requests_planned", summary.requests},
              {"requests_ok", summary.ok},
              {"requests_failed", summary.failed},
              {"failures", failures},
              {"peak_concurrent", summary.peak},
              {"tokens_counted_by_server", setup.counted},
              {"input_tokens", summary.input_tokens},
              {"cached_tokens", summary.cached_tokens},
              {"output_tokens", summary.output_tokens},
              {"answers_shorter_than_asked", summary.shorter},
              {"requests_per_second", summary.per_second(summary.ok)},
              {"output_tokens_per_second", summary.per_second(summary.output_tokens)},
              {"total_tokens_per_second", summary.per_second(summary.input_tokens + summary.output_tokens)},
              {"ttft_ms", spread_json(summary.ttft)},
              {"tpot_ms", spread_json(summary.tpot)},
              {"itl_ms", spread_json(summary.itl)},
              {"e2e_ms", spread_json(summary.e2e)},
              {"sent_late_ms", spread_json(summary.late)},
              {"requests", requests_json(results)}};
  if (setup.has_slo()) {
    out["goodput"] = {{"objectives_ms", {{"ttft", setup.slo_ttft}, {"tpot", setup.slo_itl}, {"e2e", setup.slo_e2e}}},
                      {"requests", summary.good},
                      {"requests_per_second", summary.per_second(summary.good)}};
  }
  return out;
}

}  // namespace baize::apps
