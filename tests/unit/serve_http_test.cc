// What goes over the wire: heads, chunks, JSON texts, errors, metrics.
#include "serve/http.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/json.h"
#include "serve/api_error.h"
#include "serve/json_text.h"
#include "serve/metrics.h"

namespace baize::serve {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Http, Head) {
  Reply reply;
  reply.status = 404;
  reply.headers.push_back({"Allow", "GET"});
  const std::string head = format_head(reply, 12, true);
  EXPECT_TRUE(head.starts_with("HTTP/1.1 404 Not Found\r\nDate: "));
  EXPECT_THAT(head, HasSubstr("\r\nContent-Type: application/json\r\nContent-Length: 12\r\nAllow: GET\r\n\r\n"));
  EXPECT_THAT(format_head(reply, -1, false),
              HasSubstr("Transfer-Encoding: chunked\r\nAllow: GET\r\nConnection: close\r\n"));
  reply.status = 204;
  EXPECT_THAT(format_head(reply, 0, true), Not(HasSubstr("Content-")));
}

TEST(Http, ChunksHeadersAndPaths) {
  std::string out;
  append_chunk(out, std::string(300, 'x'));
  EXPECT_EQ(out, "12c\r\n" + std::string(300, 'x') + "\r\n");
  Request request;
  request.headers = {{"AUTHORIZATION", "Bearer x"}, {"a", "b"}};
  EXPECT_EQ(request.header("authorization"), "Bearer x");
  EXPECT_EQ(request.header("missing"), "");
  EXPECT_EQ(decode_path("a%2Fb%3a%zz%2"), "a/b:%zz%2");
}

TEST(JsonText, ReadsBackAsTheSameText) {
  std::string every;
  for (char c = 1; c < 127; ++c) every += c;
  every += "\x7f ä 🦊 \xe2\x80\xa8";
  every += '\0';
  std::string out;
  append_json(out, every);
  EXPECT_EQ(Json::parse(out).get<std::string>(), every);
  EXPECT_EQ(out.find('\n'), std::string::npos);  // an event is one line
}

TEST(JsonText, WhatIsNoUtf8IsReplaced) {
  std::string out;
  append_json(out,
              "a\xff"
              "b\xe2\x82");
  EXPECT_EQ(Json::parse(out).get<std::string>(),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd");
}

TEST(JsonText, Logprobs) {
  std::string out;
  append_logprob(out, -std::numeric_limits<float>::infinity());
  EXPECT_EQ(out, "-9999");
  out.clear();
  append_logprob(out, -0.25f);
  EXPECT_EQ(out, "-0.25");
}

TEST(ApiErrors, AreOpenAis) {
  Reply reply;
  reply.streamed = true;
  write_error(ApiError(429, "rate_limit_exceeded", "", "too \"much\""), reply);
  const Json error = Json::parse(reply.body)["error"];
  EXPECT_EQ(error["message"], "too \"much\"");
  EXPECT_EQ(error["type"], "rate_limit_error");
  EXPECT_TRUE(error["param"].is_null());
  EXPECT_EQ(error["code"], "rate_limit_exceeded");
  EXPECT_EQ(reply.status, 429);
  EXPECT_TRUE(reply.done);
  EXPECT_FALSE(reply.streamed);
  EXPECT_THAT(format_head(reply, 1, true), HasSubstr("Retry-After: 1"));
}

TEST(ApiErrors, OfTheEngine) {
  EXPECT_EQ(to_api_error(Error(ErrorKind::kInvalidArgument, "x")).status, 400);
  EXPECT_EQ(to_api_error(Error(ErrorKind::kBusy, "x")).status, 429);
  EXPECT_EQ(to_api_error(Error(ErrorKind::kCancelled, "x")).status, 503);
  EXPECT_EQ(to_api_error(Error(ErrorKind::kCorrupt, "x")).status, 500);
}

TEST(Metrics, HistogramsAreCumulative) {
  static constexpr double kBounds[] = {1, 2};
  Histogram histogram(kBounds);
  for (const double value : {0.5, 1.0, 1.5, 99.0}) histogram.observe(value);
  std::string out;
  histogram.write(out, "h", "m=\"x\"");
  EXPECT_EQ(out,
            "h_bucket{m=\"x\",le=\"1\"} 2\nh_bucket{m=\"x\",le=\"2\"} 3\nh_bucket{m=\"x\",le=\"+Inf\"} 4\n"
            "h_sum{m=\"x\"} 102\nh_count{m=\"x\"} 4\n");
}

TEST(Metrics, EveryMetricIsExplainedOnceAndStandsTogether) {
  std::string samples;
  ServiceMetrics service;
  service.errors.add("timeout");
  service.write(samples);
  for (const char* labels : {"model=\"a\"", "model=\"b\""}) {
    ModelMetrics model;
    model.finished.add("stop");
    model.write(samples, labels);
    write_engine_stats(samples, EngineStats{.running = 3}, labels);
  }
  const std::string text = with_help(samples);
  EXPECT_THAT(text, HasSubstr("# TYPE baize_requests_running gauge\nbaize_requests_running{model=\"a\"} 3\n"
                              "baize_requests_running{model=\"b\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("baize_errors_total{code=\"timeout\"} 1\n"));
  const auto lines = [](const std::string& all, bool comments) {
    int count = 0;
    for (size_t at = 0; at < all.size(); at = all.find('\n', at) + 1) count += (all[at] == '#') == comments;
    return count;
  };
  EXPECT_EQ(lines(text, false), lines(samples, false));  // none is without help
  EXPECT_EQ(lines(text, true), 2 * 19);
}

}  // namespace
}  // namespace baize::serve
