// Metrics: what the service has done, in Prometheus' text format. Counting is lock-free, from any thread. Own code, for
// Debian's prometheus-cpp is a shared C++ library (docs/adr/0003-metrics.md).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>

#include "engine/stats.h"

namespace baize::serve {

/// How often values fell into each of a row of buckets.
class Histogram {
 public:
  static constexpr size_t kMaxBounds = 20;

  /// Upper bounds, ascending; those of kLatencyBounds unless told.
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds) {}
  void observe(double value);
  void write(std::string& out, const char* name, const std::string& labels) const;

 private:
  std::span<const double> bounds_;
  std::array<std::atomic<int64_t>, kMaxBounds + 1> counts_{};
  std::atomic<double> sum_{0};
};

/// One count for each value of a label.
class LabelledCounter {
 public:
  void add(const std::string& label);
  void write(std::string& out, const char* name, const char* label_name, const std::string& labels) const;

 private:
  mutable std::mutex mutex_;
  std::map<std::string, int64_t> counts_;
};

/// Of one model.
struct ModelMetrics {
  ModelMetrics();

  Histogram first_token, between_tokens, queue, request;
  std::atomic<int64_t> prompt_tokens{0}, cached_tokens{0}, new_tokens{0};
  LabelledCounter finished;

  void write(std::string& out, const std::string& labels) const;
};

/// Of the whole service.
struct ServiceMetrics {
  std::atomic<int64_t> requests{0};
  LabelledCounter errors;  // by code

  void write(std::string& out) const;
};

/// The engine's own numbers.
void write_engine_stats(std::string& out, const EngineStats& stats, const std::string& labels);

/// The "# HELP" and "# TYPE" lines of every metric that is in `text`, each before its first sample.
std::string with_help(const std::string& text);

}  // namespace baize::serve
