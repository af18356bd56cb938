// Engine: answers equal the reference's, chats reuse their cache, requests end for every reason they can, and nothing
// one request does touches the next.
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <thread>

#include "base/json.h"
#include "base/text.h"
#include "engine/evaluate.h"
#include "model/family.h"
#include "unit/engine_answer.h"
#include "unit/engine_probe.h"
#include "unit/expect_error.h"

namespace baize {
namespace {

using test::Answer;
using test::collect;
using test::expect_error;
using test::greedy;
using test::joined;
using testing::HasSubstr;

class EngineTest : public testing::Test {
 protected:
  // A tiny model on the probed reference.
  struct Served {
    std::unique_ptr<test::Probe> probe = std::make_unique<test::Probe>();
    std::unique_ptr<Backend> backend = std::make_unique<test::ProbeBackend>(*probe);
    std::shared_ptr<const Model> model;
    Json golden;
    std::unique_ptr<Engine> engine;

    Answer ask(GenRequest request) const {
      RequestHandle handle = engine->submit(std::move(request));
      return collect(handle);
    }
    std::vector<Token> prompt() const { return golden["input_ids"].get<std::vector<Token>>(); }
  };

  static Served serve(const std::string& name, EngineLimits limits = {.context = 256}) {
    Served served;
    const std::string folder = std::string(BAIZE_GOLDENS_DIR) + "/" + name;
    const auto checkpoint = open_checkpoint(folder);
    served.model = bind(checkpoint, make_spec(*checkpoint), *served.backend, {.compute = Compute::kExact});
    served.golden = parse_json(read_file(folder + "/golden.json"), folder);
    served.engine = std::make_unique<Engine>(served.model, *served.backend, Compute::kExact, limits);
    return served;
  }
};

TEST_F(EngineTest, GreedyAnswerIsTheReferences) {
  const Served s = serve("llama");
  const Answer answer = s.ask(greedy(s.prompt()));
  EXPECT_EQ(answer.ids, s.golden["generated"].get<std::vector<Token>>());
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::kLength);
  EXPECT_EQ(answer.done->usage.prompt_tokens, 20);
  EXPECT_EQ(answer.done->usage.cached_tokens, 0);
  EXPECT_EQ(answer.done->usage.new_tokens, 12);
  EXPECT_EQ(s.probe->rows[0], 20);
}

TEST_F(EngineTest, LongPromptIsComputedInPieces) {
  for (const char* name : {"llama", "gemma3_text", "mistral"}) {
    const Served whole = serve(name), pieces = serve(name, {.context = 200, .step_rows = 7});
    const auto prompt = whole.golden["long_ids"].get<std::vector<Token>>();
    const Answer expected = whole.ask(greedy(prompt, 100));
    EXPECT_EQ(pieces.ask(greedy(prompt, 100)).ids, expected.ids) << name;
    EXPECT_EQ(expected.ids.size(), 100u);
    EXPECT_EQ(pieces.probe->rows[0], 7);
  }
}

TEST_F(EngineTest, ChatComputesOnlyWhatIsNew) {
  const Served s = serve("qwen3"), fresh = serve("qwen3");
  const Answer first = s.ask(greedy(s.prompt()));
  const int64_t before = s.probe->rows_computed();
  const std::vector<Token> turn = joined(joined(s.prompt(), first.ids), {5, 6, 7});
  const Answer second = s.ask(greedy(turn));
  EXPECT_EQ(second.done->usage.cached_tokens, 20 + 11);  // the last token drawn was never computed
  EXPECT_EQ(s.probe->rows_computed() - before, 1 + 3 + 11);
  EXPECT_EQ(second.ids, fresh.ask(greedy(turn)).ids);
  // The same prompt again: all but its last token.
  EXPECT_EQ(s.ask(greedy(turn)).done->usage.cached_tokens, static_cast<int64_t>(turn.size()) - 1);
  // Another text: nothing.
  EXPECT_EQ(s.ask(greedy({9, 8, 7})).done->usage.cached_tokens, 0);
}

TEST_F(EngineTest, ReuseNeedsTheWindow) {
  const Served s = serve("gemma3_text", {.context = 256, .seqs = 1}), fresh = serve("gemma3_text");
  const std::vector<Token> ids = s.golden["long_ids"].get<std::vector<Token>>();
  const Answer first = s.ask(greedy(ids, 60));
  ASSERT_EQ(first.ids.size(), 60u);
  const std::vector<Token> on = joined(joined(ids, first.ids), {3});
  EXPECT_EQ(s.ask(greedy(on)).done->usage.cached_tokens, 96 + 59);
  // Blocks that slid out of the window stay as long as nobody needs their pages, and the prompt's middle is still
  // there.
  const std::vector<Token> back(ids.begin(), ids.begin() + 50);
  const Answer kept = s.ask(greedy(back));
  EXPECT_EQ(kept.done->usage.cached_tokens, 49);
  EXPECT_EQ(kept.ids, fresh.ask(greedy(back)).ids);
  // A text that fills the cache takes them.
  s.ask(greedy(std::vector<Token>(250, 7), 6));
  const Answer again = s.ask(greedy(back));
  EXPECT_LT(again.done->usage.cached_tokens, 49);
  EXPECT_EQ(again.ids, kept.ids);
}

TEST_F(EngineTest, StopIdEndsTheAnswerUnlessForbiddenByMinTokens) {
  const Served s = serve("llama");
  const auto expected = s.golden["generated"].get<std::vector<Token>>();
  GenRequest request = greedy(s.prompt(), 50);
  request.stop_ids = {expected[3]};
  const Answer stopped = s.ask(request);
  EXPECT_EQ(stopped.ids, std::vector<Token>(expected.begin(), expected.begin() + 3));
  EXPECT_EQ(stopped.done->reason, FinishReason::kStop);
  EXPECT_EQ(stopped.done->stop_id, expected[3]);
  EXPECT_EQ(stopped.done->usage.new_tokens, 3);

  request.min_tokens = 10;
  const Answer later = s.ask(request);
  ASSERT_GE(later.ids.size(), 10u);
  EXPECT_NE(later.ids[3], expected[3]);
  for (const Token id : later.ids) EXPECT_NE(id, expected[3]);
}

TEST_F(EngineTest, AnswerEndsWhenTheContextIsFull) {
  const Served s = serve("llama", {.context = 24});
  GenRequest request = greedy(s.prompt());
  request.max_tokens.reset();
  const Answer answer = s.ask(request);
  EXPECT_EQ(answer.ids.size(), 5u);  // the last one needs no place
  EXPECT_EQ(answer.done->reason, FinishReason::kContext);
  EXPECT_EQ(s.ask(greedy(joined(s.prompt(), {1, 2, 3, 4}))).ids.size(), 1u);
}

TEST_F(EngineTest, RefusesWhatCannotBeAnswered) {
  const Served s = serve("llama", {.context = 24});
  const auto refused = [&](ErrorKind kind, std::initializer_list<std::string> words, const auto& change) {
    GenRequest request = greedy({1, 2, 3});
    change(request);
    expect_error(kind, words, [&] { s.engine->submit(request); });
  };
  refused(ErrorKind::kInvalidArgument, {"empty"}, [](GenRequest& r) { r.prompt.clear(); });
  refused(ErrorKind::kResource, {"25 tokens", "holds 24"}, [](GenRequest& r) { r.prompt.assign(25, 1); });
  refused(ErrorKind::kInvalidArgument, {"token 128", "0 to 127"}, [](GenRequest& r) { r.prompt[1] = 128; });
  refused(ErrorKind::kInvalidArgument, {"token -1"}, [](GenRequest& r) { r.prompt[1] = -1; });
  refused(ErrorKind::kInvalidArgument, {"stop ids", "500"}, [](GenRequest& r) { r.stop_ids = {500}; });
  refused(ErrorKind::kInvalidArgument, {"max_tokens", "0"}, [](GenRequest& r) { r.max_tokens = 0; });
  refused(ErrorKind::kInvalidArgument, {"min_tokens", "0 to 12"}, [](GenRequest& r) { r.min_tokens = 13; });
  refused(ErrorKind::kInvalidArgument, {"temperature", "0 to 100"}, [](GenRequest& r) { r.sampling.temperature = -1; });
  refused(ErrorKind::kInvalidArgument, {"top_p", "nan"}, [](GenRequest& r) { r.sampling.top_p = std::nanf(""); });
  refused(ErrorKind::kInvalidArgument, {"logit_bias", "999"},
          [](GenRequest& r) { r.sampling.logit_bias = {{999, 1}}; });
  refused(ErrorKind::kInvalidArgument, {"logit_bias", "token 3"},
          [](GenRequest& r) { r.sampling.logit_bias = {{3, std::nanf("")}}; });
  EXPECT_EQ(s.probe->steps, 0);
}

TEST_F(EngineTest, CancelledWithinOneStep) {
  const Served s = serve("llama");
  s.probe->allow(3);
  RequestHandle handle = s.engine->submit(greedy(s.prompt(), 200));
  s.probe->wait_for_step(4);  // three tokens are out, the fourth step waits
  handle.cancel();
  s.probe->allow(1000);
  const Answer answer = collect(handle);
  EXPECT_EQ(answer.ids.size(), 4u);
  ASSERT_TRUE(answer.done);
  EXPECT_EQ(answer.done->reason, FinishReason::kCancelled);
  EXPECT_EQ(answer.done->usage.new_tokens, 4);
  EXPECT_EQ(s.probe->steps, 4);
  // What was computed is still good.
  const Answer again = s.ask(greedy(s.prompt()));
  EXPECT_EQ(again.done->usage.cached_tokens, 19);
  EXPECT_EQ(again.ids, s.golden["generated"].get<std::vector<Token>>());
}

TEST_F(EngineTest, DroppingTheHandleCancelsAlsoWhileWaiting) {
  const Served s = serve("llama");
  s.probe->allow(1);
  RequestHandle running = s.engine->submit(greedy(s.prompt(), 200));
  s.probe->wait_for_step(2);
  {
    const RequestHandle waiting = s.engine->submit(greedy({4, 4, 4}, 200));
  }
  {
    const RequestHandle dropped = std::move(running);
  }
  s.probe->allow(1000);
  EXPECT_EQ(s.ask(greedy(s.prompt(), 3)).done->usage.cached_tokens, 19);  // the waiting one was never begun
}

TEST_F(EngineTest, EndOfTheEngineEndsItsRequests) {
  Served s = serve("llama");
  s.probe->allow(1);
  RequestHandle running = s.engine->submit(greedy(s.prompt(), 200));
  RequestHandle waiting = s.engine->submit(greedy(s.prompt(), 200));
  s.probe->wait_for_step(2);
  std::thread end([&] { s.engine.reset(); });
  s.probe->allow(1000);
  end.join();
  // Cancelled, unless it came to its end before the engine was told.
  for (RequestHandle* handle : {&running, &waiting}) {
    const Answer answer = collect(*handle);
    ASSERT_TRUE(answer.done);
    EXPECT_TRUE(answer.done->reason == FinishReason::kCancelled || answer.ids.size() == 200u);
  }
}

TEST_F(EngineTest, LogitsThatAreNoNumbersEndOnlyThatRequest) {
  const Served s = serve("llama");
  s.probe->nan_at = 2;
  const Answer spoilt = s.ask(greedy(s.prompt()));
  EXPECT_EQ(spoilt.ids.size(), 2u);
  ASSERT_TRUE(spoilt.error);
  EXPECT_EQ(spoilt.error->kind(), ErrorKind::kCorrupt);
  EXPECT_THAT(spoilt.error->what(), HasSubstr("position 22"));
  const Answer next = s.ask(greedy(s.prompt()));
  EXPECT_EQ(next.done->usage.cached_tokens, 0);  // nothing of a spoilt cache is used
  EXPECT_EQ(next.ids, s.golden["generated"].get<std::vector<Token>>());
}

TEST_F(EngineTest, DrawsDependOnSeedAndPositionOnly) {
  const Served s = serve("llama"), other = serve("llama", {.context = 256, .step_rows = 3});
  GenRequest request = greedy(s.prompt(), 40);
  request.sampling.temperature = 1.5f;
  request.sampling.seed = 42;
  const Answer first = s.ask(request);
  EXPECT_EQ(s.ask(request).ids, first.ids);
  EXPECT_EQ(other.ask(request).ids, first.ids);
  request.sampling.seed = 43;
  EXPECT_NE(s.ask(request).ids, first.ids);
  // Continuing after the first half draws the second half again.
  request.sampling.seed = 42;
  request.prompt = joined(s.prompt(), {first.ids.begin(), first.ids.begin() + 20});
  request.max_tokens = 20;
  EXPECT_EQ(s.ask(request).ids, std::vector<Token>(first.ids.begin() + 20, first.ids.end()));
}

TEST_F(EngineTest, SamplerSeesHistoryWindowAndPosition) {
  const Served s = serve("llama");
  GenRequest request = greedy({1, 2, 3, 4, 5}, 3);
  request.sampling.penalty_window = 4;
  request.sampling.repetition_penalty = 1.1f;
  const Answer answer = s.ask(request);
  ASSERT_EQ(s.probe->draws.size(), 3u);
  EXPECT_EQ(s.probe->draws[0].position, 5);
  EXPECT_EQ(s.probe->draws[2].position, 7);
  EXPECT_FLOAT_EQ(s.probe->draws[1].repetition_penalty, 1.1f);
  EXPECT_EQ(s.probe->recent[0], (std::vector<Token>{2, 3, 4, 5}));
  EXPECT_EQ(s.probe->recent[2], (std::vector<Token>{4, 5, answer.ids[0], answer.ids[1]}));
}

TEST_F(EngineTest, PenaltiesAndBiasSteerTheAnswer) {
  const Served s = serve("llama");
  const auto expected = s.golden["generated"].get<std::vector<Token>>();
  GenRequest biased = greedy(s.prompt(), 5);
  biased.sampling.logit_bias = {{77, 1000}};
  EXPECT_EQ(s.ask(biased).ids, std::vector<Token>(5, 77));
  biased.sampling.presence_penalty = 100;
  biased.sampling.logit_bias = {{77, 50}, {78, 49}};
  const Answer once = s.ask(biased);
  EXPECT_EQ(once.ids[0], 77);
  EXPECT_EQ(once.ids[1], 78);
  EXPECT_EQ(std::count(once.ids.begin(), once.ids.end(), 77), 1);
}

TEST_F(EngineTest, AnswersRequestsOfManyThreadsInTurn) {
  const Served s = serve("llama");
  const auto expected = s.golden["generated"].get<std::vector<Token>>();
  std::vector<std::thread> threads;
  std::atomic<int> right{0};
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k) right += s.ask(greedy(s.prompt())).ids == expected;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(right, 40);
}

// CPU time of the whole process while nothing is asked: a thread that polled would use up most of the pause.
TEST_F(EngineTest, IdleUsesNoProcessor) {
  const Served s = serve("llama");
  s.ask(greedy(s.prompt()));
  const auto cpu_seconds = [] {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(cpu_seconds() - before, 0.04);
}

TEST_F(EngineTest, EvaluateChecksItsPieces) {
  const Served s = serve("llama");
  const auto bad = [&](ErrorKind kind, std::initializer_list<std::string> words, std::vector<Token> ids,
                       std::vector<int64_t> chunks) {
    expect_error(kind, words, [&] { evaluate(s.model, *s.backend, Compute::kExact, ids, chunks); });
  };
  bad(ErrorKind::kInvalidArgument, {"no token"}, {}, {});
  bad(ErrorKind::kInvalidArgument, {"128", "127"}, {1, 128}, {});
  bad(ErrorKind::kInvalidArgument, {"2 tokens", "3 token ids"}, {1, 2, 3}, {1, 1});
  bad(ErrorKind::kInvalidArgument, {"positive"}, {1, 2, 3}, {0, 3});
  bad(ErrorKind::kInvalidArgument, {"add up to the 3"}, {1, 2, 3}, {2, 2});
  bad(ErrorKind::kResource, {"257", "256"}, std::vector<Token>(257, 1), {});
}

}  // namespace
}  // namespace baize
