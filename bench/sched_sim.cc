// sched_sim: replays requests against the scheduler and a cost model instead of a device: what its decisions do to the
// time to the first token and to throughput, in seconds instead of hours. Arrivals are Poisson, lengths log-normal, and
// a share of the prompts begins with one of a few common texts. Everything follows from the seed.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/scheduler.h"

namespace {

using namespace baize;

struct Settings {
  double requests = 100000, rate = 3;           // a second
  double prompt = 200, answer = 120;            // median tokens
  double common = 0.5, common_texts = 20;       // share of prompts that begin with one of so many texts of 256 tokens
  double rows = 512, seqs = 64, cache = 32768;  // of the scheduler
  double context = 8192, waiting = 1e6, plans = 1;
  double base_ms = 5, row_ms = 0.4, cache_us = 0.5;  // of a step: fixed, a row, a thousand tokens of cache a row reads
  double seed = 1;
};

struct Option {
  const char* name;
  double Settings::* value;
};
constexpr Option kOptions[] = {
    {"requests", &Settings::requests}, {"rate", &Settings::rate},       {"prompt", &Settings::prompt},
    {"answer", &Settings::answer},     {"common", &Settings::common},   {"common-texts", &Settings::common_texts},
    {"rows", &Settings::rows},         {"seqs", &Settings::seqs},       {"cache", &Settings::cache},
    {"context", &Settings::context},   {"waiting", &Settings::waiting}, {"plans", &Settings::plans},
    {"base-ms", &Settings::base_ms},   {"row-ms", &Settings::row_ms},   {"cache-us", &Settings::cache_us},
    {"seed", &Settings::seed},
};

Settings parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string text = argv[i];
    const auto option = std::find_if(std::begin(kOptions), std::end(kOptions), [&](const Option& o) {
      return text.starts_with(std::string("--") + o.name + "=");
    });
    if (option == std::end(kOptions)) {
      fmt::print(stderr, "usage: sched_sim [--NAME=VALUE]...\n");
      for (const Option& o : kOptions) fmt::print(stderr, "  --{}={}\n", o.name, Settings().*o.value);
      std::exit(2);
    }
    settings.*(option->value) = std::atof(text.c_str() + text.find('=') + 1);
  }
  return settings;
}

CacheLayout one_group() {
  CacheLayout layout;
  layout.groups = {{{StateNeed::Kind::kPerToken, 1, 0}, 1, kUsualBlock}};
  layout.states = {{0, 0}};
  layout.page_bytes = kUsualBlock;
  return layout;
}

struct Times {
  double arrived = 0, first = -1, last = 0;
  int64_t tokens = 0;
};

class Simulation {
 public:
  explicit Simulation(const Settings& s)
      : s_(s), random_(static_cast<uint64_t>(s.seed)), scheduler_(layout_, limits(s)) {
    for (int64_t i = 0; i < static_cast<int64_t>(s.common_texts); ++i) {
      for (Token t = 0; t < 256; ++t) common_.emplace_back(static_cast<Token>(i * 1000 + t));
    }
  }

  void run() {
    double next_arrival = 0;
    while (arrived_ < static_cast<int64_t>(s_.requests) || !scheduler_.idle()) {
      if (scheduler_.idle()) clock_ = std::max(clock_, next_arrival);
      for (; next_arrival <= clock_ && arrived_ < static_cast<int64_t>(s_.requests); ++arrived_) {
        arrive(next_arrival);
        next_arrival += std::exponential_distribution(s_.rate)(random_);
      }
      step();
    }
  }

  void print(double seconds) const;

 private:
  static SchedulerLimits limits(const Settings& s) {
    return {.context = static_cast<int64_t>(s.context),
            .rows = static_cast<int64_t>(s.rows),
            .out_rows = static_cast<int64_t>(s.seqs),
            .seqs = static_cast<int64_t>(s.seqs),
            .waiting = static_cast<int64_t>(s.waiting),
            .pages = static_cast<int64_t>(std::max(s.cache, s.context)) / kUsualBlock + 2};
  }

  int64_t length(double median) {
    const double tokens = std::lognormal_distribution(std::log(median), 0.8)(random_);
    return std::clamp<int64_t>(static_cast<int64_t>(tokens), 1, static_cast<int64_t>(s_.context) / 2 - 256);
  }

  void arrive(double time) {
    GenRequest request;
    if (std::uniform_real_distribution()(random_) < s_.common) {
      const auto text = static_cast<ptrdiff_t>(random_() % static_cast<uint64_t>(s_.common_texts)) * 256;
      request.prompt.assign(common_.begin() + text, common_.begin() + text + 256);
    }
    for (int64_t left = length(s_.prompt); left > 0; --left)
      request.prompt.push_back(static_cast<Token>(random_() % 50000));
    request.max_tokens = length(s_.answer);
    try {
      times_[scheduler_.add(request)].arrived = time;
    } catch (const Error&) {
      ++refused_;
    }
  }

  double cost(const StepPlan& plan) const {
    double read = 0;
    for (const StepPart& part : plan.parts) {
      read += static_cast<double>(part.rows) * (static_cast<double>(part.first) + static_cast<double>(part.rows) / 2);
    }
    return 1e-3 * s_.base_ms + 1e-3 * s_.row_ms * static_cast<double>(plan.rows()) + 1e-9 * s_.cache_us * read;
  }

  void step() {
    StepPlan plan = scheduler_.schedule();
    const bool planned = !plan.empty();
    if (planned) in_flight_.push_back(std::move(plan));
    if (in_flight_.empty() || (planned && std::ssize(in_flight_) < static_cast<int64_t>(s_.plans))) return;
    const StepPlan& oldest = in_flight_.front();
    clock_ += cost(oldest);
    rows_ += oldest.rows();
    ++steps_;
    drawn_.resize(oldest.draw_rows.size());
    for (Token& token : drawn_) token = static_cast<Token>(random_() % 50000);
    for (const Drawn& drawn : scheduler_.commit(oldest, drawn_)) {
      Times& times = times_.at(drawn.seq);
      if (times.first < 0) times.first = clock_;
      times.last = clock_;
      ++times.tokens;
      ++tokens_;
      if (!drawn.end) continue;
      firsts_.push_back(times.first - times.arrived);
      if (times.tokens > 1) betweens_.push_back((times.last - times.first) / static_cast<double>(times.tokens - 1));
      times_.erase(drawn.seq);
    }
    in_flight_.pop_front();
  }

  const Settings s_;
  std::mt19937_64 random_;
  const CacheLayout layout_ = one_group();
  Scheduler scheduler_;
  std::vector<Token> common_, drawn_;
  std::deque<StepPlan> in_flight_;
  std::map<SeqId, Times> times_;
  std::vector<double> firsts_, betweens_;
  double clock_ = 0;
  int64_t arrived_ = 0, refused_ = 0, steps_ = 0, rows_ = 0, tokens_ = 0;
};

std::string percentiles(std::vector<double> values) {
  if (values.empty()) return "none";
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return 1e3 * values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
  };
  return fmt::format("p50 {:.1f} ms, p90 {:.1f} ms, p99 {:.1f} ms", at(0.5), at(0.9), at(0.99));
}

void Simulation::print(double seconds) const {
  fmt::print("{} requests in {:.0f} simulated seconds ({:.1f} s here, {:.1f} us a step)\n", firsts_.size(), clock_,
             seconds, 1e6 * seconds / static_cast<double>(steps_));
  fmt::print("first token: {}\n", percentiles(firsts_));
  fmt::print("between tokens: {}\n", percentiles(betweens_));
  fmt::print("{:.1f} tokens/s drawn, {:.1f} rows and {:.1f} draws a step, {} steps\n",
             static_cast<double>(tokens_) / clock_, static_cast<double>(rows_) / static_cast<double>(steps_),
             static_cast<double>(tokens_) / static_cast<double>(steps_), steps_);
  fmt::print("{:.1f} % of prompts from the cache, {} preemptions, {} refused\n",
             100.0 * static_cast<double>(scheduler_.cached_tokens()) / static_cast<double>(scheduler_.prompt_tokens()),
             scheduler_.preemptions(), refused_);
}

}  // namespace

int main(int argc, char** argv) {
  Simulation simulation(parse(argc, argv));
  const double start = now_seconds();
  simulation.run();
  simulation.print(now_seconds() - start);
}
