// The load test's pure parts: the plan, the reading of answers, the report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "apps/load_client.h"
#include "apps/load_page.h"
#include "apps/load_plan.h"
#include "apps/load_report.h"
#include "apps/load_stream.h"
#include "base/json.h"
#include "unit/expect_error.h"

namespace baize::apps {
namespace {

using test::expect_error;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

TEST(LoadPlan, FixedLengthsAllAtOnce) {
  const auto plan = plan_load({.requests = 3, .input_tokens = 7, .output_tokens = 5}, 1);
  ASSERT_EQ(plan.size(), 3u);
  for (const PlannedRequest& request : plan) {
    EXPECT_EQ(request.arrival, 0);
    EXPECT_EQ(request.input_tokens, 7);
    EXPECT_EQ(request.output_tokens, 5);
  }
}

TEST(LoadPlan, ArrivalsAreAPoissonProcess) {
  const auto plan = plan_load({.requests = 20001, .rate = 50}, 1);
  double sum = 0, squares = 0;
  for (size_t i = 1; i < plan.size(); ++i) {
    const double gap = plan[i].arrival - plan[i - 1].arrival;
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double mean = sum / 20000;
  EXPECT_NEAR(mean, 0.02, 0.0006);                                   // four standard errors
  EXPECT_NEAR(squares / 20000 - mean * mean, 0.02 * 0.02, 0.00005);  // that of an exponential distribution
}

TEST(LoadPlan, ShareGptLengthsHaveThePublishedMeans) {
  const auto plan = plan_load({.requests = 50000, .sharegpt = true}, 3);
  double input = 0, output = 0;
  std::set<int64_t> lengths;
  for (const PlannedRequest& request : plan) {
    ASSERT_GE(std::min(request.input_tokens, request.output_tokens), 4);
    ASSERT_LE(std::max(request.input_tokens, request.output_tokens), 1024);
    input += static_cast<double>(request.input_tokens);
    output += static_cast<double>(request.output_tokens);
    lengths.insert(request.input_tokens);
  }
  EXPECT_NEAR(input / 50000, 229.7, 4);
  EXPECT_NEAR(output / 50000, 203.1, 4);
  EXPECT_GT(lengths.size(), 800u);
}

TEST(LoadPlan, ASeedGivesTheSamePlanAndTheRateChangesNoLength) {
  const auto one = plan_load({.requests = 100, .sharegpt = true}, 5);
  const auto again = plan_load({.requests = 100, .sharegpt = true, .rate = 3}, 5);
  const auto other = plan_load({.requests = 100, .sharegpt = true}, 6);
  size_t differ = 0;
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].input_tokens, again[i].input_tokens);
    EXPECT_EQ(one[i].output_tokens, again[i].output_tokens);
    differ += one[i].input_tokens != other[i].input_tokens ? 1 : 0;
  }
  EXPECT_GT(differ, 90u);
}

int64_t words_in(const std::string& text) { return 1 + std::count(text.begin(), text.end(), ' '); }

TEST(LoadPrompts, HaveTheirWordsAndShareWhatTheyAreTo) {
  const Prompts prompts(9, 20);
  const std::string a = prompts.make(0, 50), b = prompts.make(1, 50);
  EXPECT_EQ(words_in(a), 50);
  EXPECT_EQ(words_in(prompts.make(2, 3)), 21);
  EXPECT_EQ(a, Prompts(9, 20).make(0, 50));
  EXPECT_NE(a, Prompts(10, 20).make(0, 50));
  size_t common = 0;
  while (a[common] == b[common]) ++common;
  EXPECT_GE(words_in(a.substr(0, common)), 20);
  EXPECT_LT(words_in(a.substr(0, common)), 26);
  EXPECT_NE(Prompts(9, 0).make(0, 50), Prompts(9, 0).make(1, 50));
  EXPECT_EQ(words_in(every_word()), word_count());
}

TEST(LoadPrompts, WordsAreFittedToTheServersTokens) {
  const WordRate rate = fit_word_rate(1, 31, 64, 31 + 63 * 2);
  EXPECT_DOUBLE_EQ(rate.base, 29);
  EXPECT_DOUBLE_EQ(rate.per_word, 2);
  EXPECT_EQ(rate.words_for(129), 50);
  EXPECT_EQ(rate.words_for(3), 1);
  EXPECT_EQ(fit_word_rate(1, -1, 64, -1).words_for(40), 40);  // a server that does not count
  EXPECT_EQ(fit_word_rate(1, 8, 64, 8).words_for(40), 40);
}

// What is understood of a body that comes in pieces of `piece` bytes.
LoadResult read(const std::string& body, size_t piece, bool chat = true, bool streamed = true) {
  LoadResult result;
  LoadStream stream(chat, streamed, result);
  for (size_t at = 0; at < body.size(); at += piece) {
    stream.feed(std::string_view(body).substr(at, piece), static_cast<uint32_t>(at));
  }
  stream.finish();
  return result;
}

TEST(LoadStream, AnySplitOfAStreamReadsTheSame) {
  const std::string body =
      ": hello\n\n"
      "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n"
      "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"content\\\":\\\"x\"},\"finish_reason\":null}]}\n\n"
      "data: {\"choices\": [{\"delta\": {\"reasoning_content\": \"b\"}, \"finish_reason\": null}]}\r\n\r\n"
      "event: x\ndata:{\"choices\":[{\"delta\":{\"content\":null,\"reasoning\":\"c\"}}]}\n\n"
      "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
      "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":5,"
      "\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n"
      "data: [DONE]\n\n";
  for (size_t piece = 1; piece <= body.size(); ++piece) {
    const LoadResult result = read(body, piece);
    ASSERT_EQ(result.state, LoadResult::kOk) << piece << result.sentence;
    ASSERT_EQ(result.events.size(), 3u) << piece;
    ASSERT_EQ(result.prompt_tokens, 12);
    ASSERT_EQ(result.output_tokens, 5);
    ASSERT_EQ(result.cached_tokens, 8);
  }
}

TEST(LoadStream, TextThatSpeaksOfKeysIsNoKey) {
  const LoadResult result = read(
      "data: {\"choices\":[{\"text\":\"\\\"error\\\":1 "
      "\\\"finish_reason\\\":\\\"stop\\\"\",\"finish_reason\":null}]}\n\n",
      7, false);
  EXPECT_EQ(result.events.size(), 1u);
  EXPECT_EQ(result.state, LoadResult::kFailed);  // for it did not finish
  EXPECT_EQ(result.failure, "broken stream");
}

TEST(LoadStream, WithoutUsageEventsAreCounted) {
  const LoadResult result = read(
      "data: {\"choices\":[{\"text\":\"a\"}]}\n\ndata: "
      "{\"choices\":[{\"text\":\"b\",\"finish_reason\":\"length\"}]}\n\n",
      9, false);
  EXPECT_EQ(result.state, LoadResult::kOk);
  EXPECT_EQ(result.output_tokens, -1);
  EXPECT_EQ(result.tokens(), 2);
}

TEST(LoadStream, WhatGoesWrongIsTold) {
  const auto failure = [](const std::string& body, const char* kind, const char* words, bool streamed = true) {
    const LoadResult result = read(body, 5, true, streamed);
    EXPECT_EQ(result.state, LoadResult::kFailed) << body;
    EXPECT_EQ(result.failure, kind) << body;
    EXPECT_THAT(result.sentence, HasSubstr(words));
  };
  failure("", "broken stream", "without any event");
  failure("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "broken stream", "without a finish reason");
  failure("data: {\"error\":{\"message\":\"out of memory\"}}\n\ndata: [DONE]\n\n", "error in the stream",
          "out of memory");
  failure("data: {\"choices\":[\n\n", "bad answer", "no JSON object");
  failure("data: {1}\n\n", "bad answer", "not valid JSON");
  failure("data: {\"choices\":[],\"usage\":{1}}\n\ndata: [DONE]\n\n", "bad answer", "not valid JSON");
  failure("<html>", "bad answer", "not valid JSON", false);
  failure("{\"object\":\"x\"}", "bad answer", "no choices", false);
}

TEST(LoadStream, WholeAnswersAreReadAtTheirEnd) {
  const LoadResult result =
      read("{\"choices\":[{}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}", 3, true, false);
  EXPECT_EQ(result.state, LoadResult::kOk);
  EXPECT_EQ(result.prompt_tokens, 3);
  EXPECT_EQ(result.tokens(), 4);
}

TEST(LoadStream, ErrorSentences) {
  EXPECT_EQ(error_sentence("{\"error\":{\"message\":\"no\\nkey\",\"type\":\"x\"}}"), "no key");
  EXPECT_EQ(error_sentence("{\"error\":\"busy\"}"), "busy");
  EXPECT_EQ(error_sentence("{\"detail\":[1]}"), "[1]");
  EXPECT_EQ(error_sentence("<b>Bad\ngateway</b>"), "<b>Bad gateway</b>");
  EXPECT_EQ(error_sentence(std::string(1000, 'x')).size(), 303u);
}

TEST(LoadAddress, IsReadAsPeopleWriteIt) {
  EXPECT_EQ(parse_load_address("http://127.0.0.1:8000").url(), "http://127.0.0.1:8000");
  EXPECT_EQ(parse_load_address("127.0.0.1:8000/").url(), "http://127.0.0.1:8000");
  EXPECT_EQ(parse_load_address("https://api.example.org/v1/").url(), "https://api.example.org");
  EXPECT_EQ(parse_load_address("https://api.example.org/v1/").port, "443");
  EXPECT_EQ(parse_load_address("http://[::1]:80/proxy/v1?x=1").url(), "http://[::1]/proxy");
  expect_error(ErrorKind::kInvalidArgument, {"--url", "ftp://x"}, [] { parse_load_address("ftp://x"); });
}

LoadResult answer(double start, double end, std::vector<uint32_t> events, int64_t output_tokens) {
  LoadResult result;
  result.state = LoadResult::kOk;
  result.planned = result.start = start;
  result.end = end;
  result.events = std::move(events);
  result.prompt_tokens = 10;
  result.wanted_tokens = 3;
  result.output_tokens = output_tokens;
  return result;
}

LoadResult failed(const char* failure, const char* sentence) {
  LoadResult result;
  result.state = LoadResult::kFailed;
  result.failure = failure;
  result.sentence = sentence;
  result.start = 1;
  result.end = 1.5;
  return result;
}

// Two answers, of 100 ms and 10 ms a token and of 500 ms and 100 ms a token, three failures, one never sent.
std::vector<LoadResult> some_results() {
  return {answer(0, 0.12, {100'000, 110'000, 120'000}, 3),
          answer(1, 1.6, {500'000, 600'000}, 2),
          failed("HTTP 429", "too <many>"),
          failed("HTTP 429", "still too many"),
          failed("timeout", "no answer"),
          {}};
}

TEST(LoadReport, CountsAndRates) {
  const LoadSummary summary = summarise({}, some_results());
  EXPECT_EQ(summary.ok, 2);
  EXPECT_EQ(summary.failed, 3);
  EXPECT_EQ(summary.requests, 6);
  EXPECT_DOUBLE_EQ(summary.seconds, 1.6);
  EXPECT_EQ(summary.peak, 4);
  EXPECT_EQ(summary.input_tokens, 20);
  EXPECT_EQ(summary.output_tokens, 5);
  EXPECT_EQ(summary.shorter, 1);
  EXPECT_DOUBLE_EQ(summary.per_second(summary.output_tokens), 5 / 1.6);
  ASSERT_EQ(summary.failures.size(), 2u);
  EXPECT_EQ(summary.failures.at("HTTP 429").count, 2);
  EXPECT_EQ(summary.failures.at("HTTP 429").first, "too <many>");
}

TEST(LoadReport, Latencies) {
  const LoadSummary summary = summarise({}, some_results());
  EXPECT_NEAR(summary.ttft.mean, 300, 1e-3);
  EXPECT_NEAR(summary.ttft.max, 500, 1e-3);
  EXPECT_NEAR(summary.tpot.p50, (10 + 100) / 2.0, 1e-3);
  EXPECT_EQ(summary.itl.count, 3u);
  EXPECT_NEAR(summary.itl.p50, 10, 1e-3);
  EXPECT_NEAR(summary.e2e.mean, 360, 1e-3);
}

TEST(LoadReport, PercentilesAreInterpolated) {
  std::vector<float> values;
  for (int i = 100; i >= 1; --i) values.push_back(static_cast<float>(i));
  const Spread spread = spread_of(values);
  EXPECT_NEAR(spread.p50, 50.5, 1e-4);
  EXPECT_NEAR(spread.p90, 90.1, 1e-4);
  EXPECT_NEAR(spread.p99, 99.01, 1e-4);
  std::vector<float> one = {7}, none;
  EXPECT_EQ(spread_of(one).p99, 7);
  EXPECT_EQ(spread_of(none).count, 0u);
}

TEST(LoadReport, GoodputTakesEveryObjective) {
  LoadSetup setup;
  const auto good = [&](double ttft, double itl, double e2e) {
    setup.slo_ttft = ttft;
    setup.slo_itl = itl;
    setup.slo_e2e = e2e;
    return summarise(setup, some_results()).good;
  };
  EXPECT_EQ(good(0, 0, 0), 2);
  EXPECT_EQ(good(200, 0, 0), 1);
  EXPECT_EQ(good(0, 50, 0), 1);
  EXPECT_EQ(good(600, 200, 601), 2);
  EXPECT_EQ(good(600, 200, 100), 0);
  EXPECT_EQ(good(50, 50, 0), 0);
  const std::string table = load_table(setup, summarise(setup, some_results()));
  EXPECT_THAT(table, HasSubstr("met TTFT 50 ms, TPOT 50 ms"));
}

TEST(LoadReport, TableAndJsonTellTheSame) {
  LoadSetup setup;
  setup.model = "a <model>";
  const std::vector<LoadResult> results = some_results();
  const LoadSummary summary = summarise(setup, results);
  const std::string table = load_table(setup, summary);
  EXPECT_THAT(table, HasSubstr("2 ok, 3 failed"));
  EXPECT_THAT(table, HasSubstr("2 x HTTP 429: too <many>"));
  EXPECT_THAT(table, HasSubstr("1 x timeout: no answer"));
  EXPECT_THAT(table, HasSubstr("output tokens   5"));
  EXPECT_THAT(table, Not(HasSubstr("goodput")));
  const Json json = load_json(setup, summary, results);
  EXPECT_EQ(json["requests_ok"], 2);
  EXPECT_EQ(json["failures"]["timeout"]["count"], 1);
  EXPECT_EQ(json["requests"].size(), 6u);
  EXPECT_EQ(json["requests"][5]["state"], "not sent");
  EXPECT_NEAR(json["ttft_ms"]["mean"].get<double>(), 300, 1e-3);
  EXPECT_FALSE(json.contains("goodput"));
}

TEST(LoadReport, NothingSucceeded) {
  const std::vector<LoadResult> results = {failed("HTTP 500", "no")};
  const LoadSummary summary = summarise({}, results);
  EXPECT_THAT(load_table({}, summary), HasSubstr("0 ok, 1 failed"));
  EXPECT_TRUE(load_json({}, summary, results)["ttft_ms"].is_null());
  EXPECT_THAT(load_page({}, summary, results), Not(HasSubstr("<svg")));
}

TEST(LoadPage, StandsAlone) {
  LoadSetup setup;
  setup.model = "<img src=x>";
  const std::vector<LoadResult> results = some_results();
  const std::string page = load_page(setup, summarise(setup, results), results);
  EXPECT_THAT(page, HasSubstr("&lt;img src=x&gt;"));
  EXPECT_THAT(page, HasSubstr("too &lt;many&gt;"));
  for (const char* banned : {"<img", "<script", "http://", "https://", "nan", "inf,"}) {
    EXPECT_THAT(page, Not(HasSubstr(banned)));
  }
  size_t plots = 0;
  for (size_t at = 0; (at = page.find("<svg", at)) != std::string::npos; ++at) ++plots;
  EXPECT_EQ(plots, 4u);
}

}  // namespace
}  // namespace baize::apps
