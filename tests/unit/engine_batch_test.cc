// Many requests at once on real (tiny) models: answers are those of a lone run, beginnings are computed once, a small
// cache only delays, probabilities are those of the logits, and one failing request ends only itself.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "backend/cpu/cpu_backend.h"
#include "base/json.h"
#include "base/text.h"
#include "engine/engine.h"
#include "engine/evaluate.h"
#include "model/family.h"
#include "unit/engine_answer.h"
#include "unit/engine_probe.h"
#include "unit/expect_error.h"

namespace baize {
namespace {

using test::Answer;
using test::collect;
using test::greedy;
using test::joined;

struct Loaded {
  std::unique_ptr<Backend> backend;
  Compute compute;
  std::shared_ptr<const Model> model;
  Json golden;

  std::unique_ptr<Engine> engine(const EngineLimits& limits) const {
    return std::make_unique<Engine>(model, *backend, compute, limits);
  }
  std::vector<Token> prompt() const { return golden["input_ids"].get<std::vector<Token>>(); }
  std::vector<Token> generated() const { return golden["generated"].get<std::vector<Token>>(); }
};

Loaded load(const std::string& name, std::unique_ptr<Backend> backend, Compute compute) {
  Loaded loaded{std::move(backend), compute, {}, {}};
  const std::string folder = std::string(BAIZE_GOLDENS_DIR) + "/" + name;
  const auto checkpoint = open_checkpoint(folder);
  loaded.model = bind(checkpoint, make_spec(*checkpoint), *loaded.backend, {.compute = compute});
  loaded.golden = parse_json(read_file(folder + "/golden.json"), folder);
  return loaded;
}
Loaded load_cpu(const std::string& name, Compute compute) { return load(name, make_cpu_backend(2), compute); }

std::vector<Token> random_text(std::mt19937& random, int64_t length, Token vocab) {
  std::vector<Token> text;
  for (int64_t i = 0; i < length; ++i) text.push_back(static_cast<Token>(random() % static_cast<uint32_t>(vocab)));
  return text;
}

std::vector<Answer> ask_all(Engine& engine, const std::vector<GenRequest>& requests) {
  std::vector<RequestHandle> handles;
  for (const GenRequest& request : requests) handles.push_back(engine.submit(request));
  std::vector<Answer> answers;
  for (RequestHandle& handle : handles) answers.push_back(collect(handle));
  return answers;
}

// A seeded request among so many neighbours of all kinds.
Answer ask_among(const Loaded& loaded, const GenRequest& request, uint32_t neighbours) {
  const auto engine = loaded.engine({.context = 256, .step_rows = 48, .seqs = 40, .cache_tokens = 4096});
  std::mt19937 random(neighbours);
  std::vector<GenRequest> requests;
  for (uint32_t i = 0; i < neighbours; ++i) {
    const auto length = static_cast<int64_t>(1 + random() % 70);
    requests.push_back(greedy(random_text(random, length, 128), 5 + random() % 40));
    requests.back().sampling.temperature = static_cast<float>(random() % 3);
    requests.back().sampling.seed = random();
  }
  requests.insert(requests.begin() + std::ssize(requests) / 2, request);
  return ask_all(*engine, requests)[neighbours / 2];
}

TEST(EngineBatch, DeterministicAnswersDoNotDependOnTheBatch) {
  for (const char* name : {"llama", "gemma3_text", "mistral"}) {
    const Loaded loaded = load_cpu(name, Compute::kInvariant);
    GenRequest request = greedy(joined(loaded.prompt(), loaded.prompt()), 60);
    request.sampling.temperature = 1.3f;
    request.sampling.seed = 11;
    const Answer alone = ask_among(loaded, request, 0);
    ASSERT_EQ(alone.ids.size(), 60u);
    for (const uint32_t neighbours : {1u, 7u, 32u}) {
      EXPECT_EQ(ask_among(loaded, request, neighbours).ids, alone.ids) << name << " among " << neighbours;
    }
  }
}

// The logits themselves, bit by bit, whatever shares the step: rows of other sequences, other pieces of its own prompt.
class BatchLogits {
 public:
  static constexpr int64_t kContext = 128;
  BatchLogits(const Loaded& loaded, int64_t seqs)
      : loaded_(loaded),
        layout_(cache_layout(*loaded.model)),
        pages_(seqs * layout_.pages_for(kContext, kContext)),
        runner_(loaded.model, *loaded.backend, loaded.compute,
                {.rows = 512, .seqs = seqs, .out_rows = 512, .context = kContext}, pages_),
        pool_(pages_) {}

  /// Logits of each text's tokens, all texts computed together in steps of `chunk` rows each.
  std::vector<std::vector<float>> run(const std::vector<std::vector<Token>>& texts, int64_t chunk) {
    std::vector<std::unique_ptr<Sequence>> sequences;
    for (const auto& text : texts) {
      sequences.push_back(std::make_unique<Sequence>(SeqId{std::ssize(sequences)}, text, layout_, pool_));
    }
    std::vector<std::vector<float>> logits(texts.size());
    while (true) {
      StepPlan plan;
      std::vector<size_t> parts;
      for (size_t i = 0; i < sequences.size(); ++i) {
        Sequence& sequence = *sequences[i];
        const int64_t rows = std::min(chunk + static_cast<int64_t>(i) % 3, sequence.size() - sequence.n_computed);
        if (rows == 0) continue;
        sequence.cache.slide(sequence.n_computed);
        EXPECT_TRUE(sequence.cache.reserve(sequence.n_computed + rows));
        plan.add(sequence, rows, {.scores = rows});
        sequence.n_computed += rows;
        parts.push_back(i);
      }
      if (plan.empty()) return logits;
      const StepResult result = runner_.run(plan);
      const auto vocab = loaded_.model->spec.dims.vocab;
      for (size_t p = 0; p < parts.size(); ++p) {
        const auto first = result.scores.begin() + plan.parts[p].first_score * vocab;
        logits[parts[p]].insert(logits[parts[p]].end(), first, first + plan.parts[p].scores * vocab);
      }
    }
  }

 private:
  const Loaded& loaded_;
  CacheLayout layout_;
  int64_t pages_;
  Runner runner_;
  BlockPool pool_;
};

std::vector<std::vector<Token>> some_texts(int64_t count) {
  std::mt19937 random(5);
  std::vector<std::vector<Token>> texts;
  for (int64_t i = 0; i < count; ++i) texts.push_back(random_text(random, 1 + random() % 100, 128));
  texts[0].resize(90, 3);
  return texts;
}

// A backend that wants trial steps before the first request, as a GPU's does.
class WarmingBackend : public test::ProbeBackend {
 public:
  WarmingBackend(test::Probe& probe, double step_seconds) : ProbeBackend(probe), seconds_(step_seconds) {}
  EngineHabits habits() const override { return {.warms_up = true, .step_seconds = seconds_}; }

 private:
  double seconds_;
};

TEST(EngineBatch, TrialStepsLeaveNoTraceInAnswers) {
  for (const char* name : {"llama", "gemma3_text", "mamba2", "deepseek_v32"}) {
    SCOPED_TRACE(name);
    test::Probe probe;
    const Loaded loaded = load(name, std::make_unique<WarmingBackend>(probe, 0.0), Compute::kExact);
    const EngineLimits limits{.context = 600, .step_rows = 512, .seqs = 4, .cache_tokens = 1200, .measure_step = true};
    const auto engine = loaded.engine(limits);
    EXPECT_EQ(*std::max_element(probe.rows.begin(), probe.rows.end()), 512);
    probe.rows.clear();
    RequestHandle handle = engine->submit(greedy(std::vector<Token>(400, 5), 1));
    EXPECT_TRUE(collect(handle).done);
    // No step is that quick: the smallest budget is taken, whatever the limit.
    EXPECT_EQ(*std::max_element(probe.rows.begin(), probe.rows.end()), 256);
    RequestHandle again = engine->submit(greedy(loaded.prompt(), static_cast<int64_t>(loaded.generated().size())));
    const Answer answer = collect(again);
    if (loaded.golden["consistent"].get<bool>()) {
      EXPECT_EQ(answer.ids, loaded.generated());
    }
  }
}

TEST(EngineBatch, DeterministicLogitsAreTheSameBits) {
  for (const char* name : {"llama", "gemma3_text", "qwen3", "gemma2"}) {
    const Loaded loaded = load_cpu(name, Compute::kInvariant);
    const auto texts = some_texts(33);
    BatchLogits batch(loaded, 33);
    const std::vector<float> alone = batch.run({texts[0]}, 90)[0];
    for (const int64_t chunk : {1, 5, 13}) {
      EXPECT_EQ(batch.run({texts[0]}, chunk)[0], alone) << name << " in pieces of " << chunk;
      EXPECT_EQ(batch.run(texts, chunk)[0], alone) << name << " among others, in pieces of " << chunk;
    }
  }
}

TEST(EngineBatch, LogitsInABatchAreThoseOfALoneRun) {
  for (const char* name : {"llama", "gemma3_text", "mistral", "deepseek_v32", "deepseek_v4", "zamba2", "gemma3n_text",
                           "doge", "minimax"}) {
    const Loaded loaded = load_cpu(name, Compute::kExact);
    const auto texts = some_texts(33);
    BatchLogits batch(loaded, 33);
    for (const int64_t chunk : {1, 13}) {
      const auto together = batch.run(texts, chunk);
      for (size_t i = 0; i < texts.size(); i += 4) {
        const std::vector<float> alone = batch.run({texts[i]}, 90)[0];
        double error = 0, power = 0;
        ASSERT_EQ(alone.size(), together[i].size());
        for (size_t k = 0; k < alone.size(); ++k) {
          error += std::pow(static_cast<double>(together[i][k]) - alone[k], 2);
          power += std::pow(static_cast<double>(alone[k]), 2);
        }
        EXPECT_LT(error / power, 1e-10) << name;
      }
    }
  }
}

TEST(EngineBatch, MixedRequestsAreAnsweredAsAlone) {
  for (const char* name : {"llama", "gemma3_text", "deepseek_v4"}) {
    const Loaded loaded = load(name, make_ref_backend(), Compute::kExact);
    std::mt19937 random(9);
    std::vector<GenRequest> requests;
    for (int i = 0; i < 24; ++i) {
      std::vector<Token> prompt = loaded.prompt();
      prompt.resize(1 + random() % prompt.size());
      requests.push_back(greedy(joined(prompt, random_text(random, random() % 60, 128)), 1 + random() % 30));
      requests.back().priority = static_cast<int32_t>(random() % 3);
      requests.back().sampling.temperature = static_cast<float>(random() % 2);
      requests.back().sampling.seed = random();
    }
    const auto lone = loaded.engine({.context = 128, .seqs = 1});
    std::vector<std::vector<Token>> expected;
    for (const GenRequest& request : requests) expected.push_back(ask_all(*lone, {request})[0].ids);
    // Plenty of cache, and so little that running requests lose theirs.
    for (const int64_t cache : {4096, 0}) {
      const auto engine = loaded.engine({.context = 128, .step_rows = 40, .seqs = 9, .cache_tokens = cache});
      const std::vector<Answer> answers = ask_all(*engine, requests);
      for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].ids, expected[i]) << name << " " << i;
      const EngineStats stats = engine->stats();
      EXPECT_EQ(stats.running + stats.waiting + stats.pages_used, 0);
      EXPECT_EQ(stats.finished[static_cast<size_t>(FinishReason::kLength)], 24);
      EXPECT_GT(stats.cached_tokens, 0);
      EXPECT_TRUE(cache == 0 || stats.preemptions == 0);
    }
  }
}

TEST(EngineBatch, SharedBeginningIsComputedOnce) {
  auto probe = std::make_unique<test::Probe>();
  const Loaded loaded = load("llama", std::make_unique<test::ProbeBackend>(*probe), Compute::kExact);
  const auto engine = loaded.engine({.context = 256, .seqs = 8});
  const std::vector<Token> common(200, 7);
  std::vector<GenRequest> requests;
  for (Token i = 0; i < 8; ++i) requests.push_back(greedy(joined(common, {i, 1}), 2));
  const std::vector<Answer> answers = ask_all(*engine, requests);
  int64_t cached = 0;
  for (const Answer& answer : answers) cached += answer.done->usage.cached_tokens;
  EXPECT_GE(cached, 7 * 192);  // full blocks
  EXPECT_LE(probe->rows_computed(), 202 + 7 * 10 + 8);
}

TEST(EngineBatch, StreamsAreBatchedAndNotHeldUpByAPrompt) {
  auto probe = std::make_unique<test::Probe>();
  const Loaded loaded = load("llama", std::make_unique<test::ProbeBackend>(*probe), Compute::kExact);
  const auto engine = loaded.engine({.context = 256, .step_rows = 16, .seqs = 8, .cache_tokens = 2048});
  probe->allow(0);
  std::vector<GenRequest> requests;
  for (Token i = 0; i < 8; ++i) requests.push_back(greedy({i, 1, 2}, 64));
  std::vector<RequestHandle> handles;
  for (const GenRequest& request : requests) handles.push_back(engine->submit(request));
  probe->allow(1 << 20);
  for (RequestHandle& handle : handles) EXPECT_EQ(collect(handle).ids.size(), 64u);
  const EngineStats stats = engine->stats();
  EXPECT_EQ(stats.drawn, 8 * 64);
  EXPECT_LT(stats.steps, 64 + 8);
  for (const int64_t rows : probe->rows) EXPECT_LE(rows, 16);
}

TEST(EngineBatch, RefusesWhenTooManyWait) {
  auto probe = std::make_unique<test::Probe>();
  const Loaded loaded = load("llama", std::make_unique<test::ProbeBackend>(*probe), Compute::kExact);
  const auto engine = loaded.engine({.context = 64, .seqs = 1, .waiting = 2});
  probe->allow(0);
  RequestHandle running = engine->submit(greedy({1, 2}));
  probe->wait_for_step(1);
  RequestHandle first = engine->submit(greedy({1, 2})), second = engine->submit(greedy({1, 2}));
  EXPECT_EQ(engine->stats().running, 1);
  EXPECT_EQ(engine->stats().waiting, 2);
  test::expect_error(ErrorKind::kBusy, {"2 requests wait", "later"}, [&] { engine->submit(greedy({1, 2})); });
  probe->allow(1 << 20);
  EXPECT_TRUE(collect(second).done);
  EXPECT_GT(collect(running).ids.size() + collect(first).ids.size(), 0u);
}

// ---- log probabilities ----

std::vector<double> log_softmax(std::span<const float> logits) {
  double highest = -1e30, sum = 0;
  for (const float logit : logits) highest = std::max<double>(highest, logit);
  for (const float logit : logits) sum += std::exp(logit - highest);
  std::vector<double> result;
  for (const float logit : logits) result.push_back(logit - highest - std::log(sum));
  return result;
}

void expect_logprobs(const TokenLogprobs& got, const std::vector<double>& expected, Token token, size_t top) {
  EXPECT_NEAR(got.logprob, expected[static_cast<size_t>(token)], 1e-4);
  ASSERT_EQ(got.top.size(), top);
  std::vector<double> sorted = expected;
  std::sort(sorted.rbegin(), sorted.rend());
  for (size_t i = 0; i < top; ++i) {
    EXPECT_NEAR(got.top[i].logprob, sorted[i], 1e-4);
    EXPECT_NEAR(got.top[i].logprob, expected[static_cast<size_t>(got.top[i].id)], 1e-4);
  }
}

TEST(EngineBatch, LogprobsAreThoseOfTheRawLogits) {
  const Loaded loaded = load("llama", make_ref_backend(), Compute::kExact);
  // Prompts of several pieces; a second request in the batch; penalties and biases must not show.
  const auto engine = loaded.engine({.context = 256, .step_rows = 32, .seqs = 4});
  GenRequest request = greedy(loaded.golden["long_ids"].get<std::vector<Token>>(), 6);
  request.logprobs = 3;
  request.prompt_logprobs = true;
  request.sampling.logit_bias = {{5, 3.0f}};
  request.sampling.repetition_penalty = 1.2f;
  engine->submit(greedy(request.prompt, 1)).next();  // fills the cache, which must not cost any prompt logprob
  const std::vector<Answer> answers = ask_all(*engine, {greedy(loaded.prompt(), 20), request, greedy({1}, 1)});
  const Answer& answer = answers[1];
  ASSERT_TRUE(answer.prompt_logprobs);
  ASSERT_EQ(answer.prompt_logprobs->tokens.size(), request.prompt.size() - 1);
  ASSERT_EQ(answer.logprobs.size(), 6u);
  EXPECT_TRUE(answers[0].logprobs.empty() && !answers[0].prompt_logprobs);

  const std::vector<Token> text = joined(request.prompt, answer.ids);
  const std::vector<float> logits = evaluate(loaded.model, *loaded.backend, loaded.compute, text, {});
  const auto row = [&](size_t i) { return log_softmax(std::span(logits).subspan(i * 128, 128)); };
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    const bool in_prompt = i + 1 < request.prompt.size();
    const TokenLogprobs& got =
        in_prompt ? answer.prompt_logprobs->tokens[i] : answer.logprobs[i + 1 - request.prompt.size()];
    expect_logprobs(got, row(i), text[i + 1], 3);
  }
  GenRequest only = greedy({4}, 1);
  only.prompt_logprobs = true;
  only.logprobs = 0;
  const Answer lone = ask_all(*engine, {only})[0];
  EXPECT_TRUE(lone.prompt_logprobs && lone.prompt_logprobs->tokens.empty());
  EXPECT_TRUE(lone.logprobs.at(0).top.empty());
}

// ---- failures ----

TEST(EngineBatch, OneFailureEndsOnlyItsRequest) {
  auto probe = std::make_unique<test::Probe>();
  const Loaded loaded = load("llama", std::make_unique<test::ProbeBackend>(*probe), Compute::kExact);
  const auto engine = loaded.engine({.context = 128, .seqs = 4});
  probe->no_memory_for = 99;  // a token
  GenRequest fatal = greedy({1, 2, 99}, 8);
  fatal.logprobs = 0;
  GenRequest other = greedy(loaded.prompt());
  other.logprobs = 1;
  other.prompt_logprobs = true;
  probe->allow(0);
  RequestHandle running = engine->submit(greedy(loaded.prompt()));
  RequestHandle bad = engine->submit(fatal), good = engine->submit(other);
  probe->allow(1 << 20);
  const Answer failed = collect(bad);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->kind(), ErrorKind::kResource);
  EXPECT_EQ(collect(running).ids, loaded.generated());
  const Answer answered = collect(good);
  EXPECT_EQ(answered.ids, loaded.generated());
  EXPECT_EQ(answered.logprobs.size(), 12u);
  EXPECT_EQ(answered.prompt_logprobs->tokens.size(), 19u);
  EXPECT_EQ(engine->stats().failed, 1);
}

}  // namespace
}  // namespace baize
