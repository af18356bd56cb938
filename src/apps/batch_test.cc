#include "apps/batch_test.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/clock.h"
#include "base/queue.h"

namespace baize::apps {

namespace {

// Tokens do not matter for speed, but no two streams may share a beginning.
GenRequest make_request(const BatchCase& test, int64_t stream, int64_t vocab) {
  GenRequest request;
  for (int64_t i = 0; i < test.prompt; ++i) {
    request.prompt.push_back(static_cast<Token>((i * 7919 + (stream + 1) * 104729) % vocab));
  }
  request.sampling.temperature = 0;
  request.max_tokens = test.tokens;
  return request;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

BatchResult run_batch(Engine& engine, const BatchCase& test) {
  Queue<std::pair<size_t, double>> told;  // by the engine's thread: whose event came when
  std::vector<RequestHandle> handles;
  const double start = now_seconds();
  for (size_t s = 0; s < static_cast<size_t>(test.streams); ++s) {
    handles.push_back(engine.submit(make_request(test, static_cast<int64_t>(s), engine.vocab()),
                                    [&told, s] { told.push({s, now_seconds()}); }));
  }
  std::vector<std::vector<double>> times(handles.size());  // of every token
  for (size_t running = handles.size(); running > 0;) {
    const auto [s, time] = told.pop().value();
    const std::optional<Event> event = handles[s].poll();
    BAIZE_CHECK(event.has_value());
    if (const Error* error = std::get_if<Error>(&*event)) throw *error;
    if (std::holds_alternative<Done>(*event)) {
      --running;
    } else {
      times[s].push_back(time - start);
    }
  }
  std::vector<double> firsts, lasts;
  for (const std::vector<double>& stream : times) {
    firsts.push_back(stream.front());
    lasts.push_back(stream.back());
  }
  const double all_run = *std::max_element(firsts.begin(), firsts.end());
  const double first_ends = *std::min_element(lasts.begin(), lasts.end());
  int64_t together = 0;
  for (const std::vector<double>& stream : times) {
    together += std::count_if(stream.begin(), stream.end(), [&](double t) { return t > all_run && t <= first_ends; });
  }
  BatchResult result{.test = test};
  result.first_median = median(firsts);
  result.first_last = all_run;
  if (together > 0) result.decode_rate = static_cast<double>(together) / (first_ends - all_run);
  result.total_rate = static_cast<double>(test.streams * test.tokens) / *std::max_element(lasts.begin(), lasts.end());
  return result;
}

}  // namespace baize::apps
