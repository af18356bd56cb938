// Scheduler: traces of events in and plans out, and random use against a cache of hashes that notices every wrong page.
#include "engine/scheduler.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <sstream>

#include "unit/engine_fake_runner.h"
#include "unit/expect_error.h"

namespace baize {
namespace {

using test::FakeRunner;
using Kind = StateNeed::Kind;

constexpr Token kVocab = 1000;

// Plays a script: each line an event, its answer the plan or the outcome. Names stand for sequences.
//   add NAME LENGTH [max=N] [prio=N] [like=NAME:N]   a prompt of LENGTH tokens, the first N those of another
//   step     plans a step:      NAME[first,end) a part, ! a draw, ? scored rows, copy: pages to copy
//   commit   ends the oldest:   NAME+ a token was drawn, NAME. it has ended, NAME- it has failed
//   run      both
//   cancel NAME
class Trace {
 public:
  Trace(const CacheLayout& layout, const SchedulerLimits& limits) : layout_(layout), scheduler_(layout_, limits) {}

  std::string play(const std::string& script) {
    std::istringstream lines(script);
    std::string out;
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string event;
      if (!(words >> event)) continue;
      out += line + answer(event, words) + "\n";
      scheduler_.check();
    }
    return out;
  }

  const Scheduler& scheduler() const { return scheduler_; }

 private:
  std::string answer(const std::string& event, std::istringstream& words) {
    if (event == "add") return add(words);
    if (event == "step") return step();
    if (event == "commit") return " ->" + commit();
    if (event == "run") {
      const std::string planned = step();
      return planned + " |" + commit();
    }
    std::string name;
    words >> name;
    EXPECT_EQ(event, "cancel");
    scheduler_.end(ids_.at(name));
    return "";
  }

  std::string add(std::istringstream& words) {
    std::string name, option;
    int64_t length = 0;
    words >> name >> length;
    GenRequest request;
    request.max_tokens = 1000;
    for (int64_t i = 0; i < length; ++i) request.prompt.push_back(static_cast<Token>(100 * name[0] + i % 100));
    while (words >> option) {
      const int number = std::atoi(option.substr(option.find('=') + 1).c_str());
      if (option.starts_with("max=")) request.max_tokens = number;
      if (option.starts_with("prio=")) request.priority = number;
      if (option.starts_with("score=")) request.prompt_logprobs = number != 0;
      if (option.starts_with("like=")) {
        const int count = std::stoi(option.substr(option.find(':') + 1));
        const std::vector<Token>& other = prompts_.at(option.substr(5, option.find(':') - 5));
        std::copy_n(other.begin(), count, request.prompt.begin());
      }
    }
    try {
      ids_[name] = scheduler_.add(request);
    } catch (const Error& error) {
      return std::string(" -> ") + to_string(error.kind());
    }
    names_[ids_[name]] = name;
    prompts_[name] = request.prompt;
    return "";
  }

  std::string step() {
    plans_.push_back(scheduler_.schedule());
    const StepPlan& plan = plans_.back();
    std::string out = plan.empty() ? " -> nothing" : " ->";
    for (const StepPart& part : plan.parts) {
      out += fmt::format(" {}[{},{})", names_.at(part.seq), part.first, part.first + part.rows);
      if (part.scores > 0) out += fmt::format("?{}", part.scores);
      if (part.draw >= 0) out += "!";
    }
    if (!plan.copies.empty()) out += fmt::format(" copy:{}", plan.copies.size());
    if (plan.empty()) plans_.pop_back();
    return out;
  }

  std::string commit() {
    std::vector<Token> drawn(plans_.front().draw_rows.size());
    for (Token& token : drawn) token = next_++;
    std::string out;
    for (const Drawn& told : scheduler_.commit(plans_.front(), drawn)) {
      out += " " + names_.at(told.seq) + (told.end ? "." : "+");
    }
    plans_.pop_front();
    return out;
  }

  CacheLayout layout_;
  Scheduler scheduler_;
  std::deque<StepPlan> plans_;
  std::map<std::string, SeqId> ids_;
  std::map<SeqId, std::string> names_;
  std::map<std::string, std::vector<Token>> prompts_;
  Token next_ = 500;
};

void expect_trace(Trace& trace, const std::string& expected) {
  std::string script;
  std::istringstream lines(expected);
  for (std::string line; std::getline(lines, line);) script += line.substr(0, line.find(" ->")) + "\n";
  EXPECT_EQ(trace.play(script), expected.substr(1));
}

TEST(Scheduler, StreamsComeFirstAndPromptsGetTheRest) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 8, .out_rows = 4, .seqs = 4, .pages = 64});
  expect_trace(trace, R"(
add a 3 max=4
run -> a[0,3)! | a+
add b 20 max=2
run -> a[3,4)! b[0,7) | a+
run -> a[4,5)! b[7,14) | a+
run -> a[5,6)! b[14,20)! | a. b+
run -> b[20,21)! | b.
step -> nothing
)");
}

TEST(Scheduler, LongPromptLeavesHalfTheBudgetToShortOnes) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 8, .out_rows = 8, .seqs = 4, .pages = 64});
  expect_trace(trace, R"(
add a 30 max=1
add b 3 max=1
add c 2 max=1
run -> b[0,3)! c[0,1) a[0,4) | b.
run -> c[1,2)! a[4,11) | c.
run -> a[11,19) |
add d 30 max=1
run -> a[19,27) |
run -> a[27,30)! d[0,5) | a.
)");
}

TEST(Scheduler, HigherPriorityGoesFirstAndTakesAPlace) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 8, .out_rows = 8, .seqs = 2, .pages = 64});
  expect_trace(trace, R"(
add a 4
add b 4
add c 4
add d 4 prio=5
run -> d[0,4)! a[0,4)! | d+ a+
add e 4 prio=9
run -> d[4,5)! e[0,4)! | d+ e+
cancel e
run -> d[5,6)! a[4,5)! | d+ a+
cancel d
cancel a
run -> b[0,4)! c[0,4)! | b+ c+
)");
  EXPECT_EQ(trace.scheduler().preemptions(), 1);
}

TEST(Scheduler, LowestRankLosesItsPagesAndIsComputedAgain) {
  // Six pages of four tokens: two texts of four blocks do not fit.
  Trace trace(test::per_token_layout(4), {.context = 16, .rows = 8, .out_rows = 8, .seqs = 4, .pages = 6});
  expect_trace(trace, R"(
add a 7
add b 7
run -> a[0,7)! b[0,1) | a+
run -> a[7,8)! b[1,7)! | a+ b+
run -> a[8,9)! b[7,8)! | a+ b+
run -> a[9,10)! b[8,9)! | a+ b+
run -> a[10,11)! b[9,10)! | a+ b+
run -> a[11,12)! b[10,11)! | a+ b+
run -> a[12,13)! | a+
cancel a
run -> b[8,12)! | b+
)");
}

TEST(Scheduler, ComputesASharedBeginningOnce) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 16, .out_rows = 8, .seqs = 8, .pages = 64});
  expect_trace(trace, R"(
add a 20 max=2
add b 14 like=a:13 max=2
add c 3 max=1
add d 14 like=a:6 max=1
run -> c[0,3)! a[0,13) | c.
run -> a[13,20)! b[12,14)! d[6,13) copy:1 | a+ b+
run -> a[20,21)! b[14,15)! d[13,14)! | a. b. d.
)");
}

TEST(Scheduler, QueueIsBounded) {
  Trace trace(test::per_token_layout(4),
              {.context = 64, .rows = 8, .out_rows = 8, .seqs = 1, .waiting = 2, .pages = 64});
  expect_trace(trace, R"(
add a 4
run -> a[0,4)! | a+
add b 4
add c 4
add d 4 -> busy
cancel b
add d 4
)");
}

TEST(Scheduler, PlansInFlight) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 8, .out_rows = 8, .seqs = 4, .pages = 64});
  expect_trace(trace, R"(
add a 3 max=3
add b 9 max=3
step -> a[0,3)! b[0,5)
step -> a[3,4)! b[5,9)!
commit -> a+
step -> a[4,5)! b[9,10)!
commit -> a+ b+
cancel b
commit -> a.
step -> nothing
)");
}

TEST(Scheduler, PromptIsScoredInPiecesOfTheOutputRows) {
  Trace trace(test::per_token_layout(4), {.context = 64, .rows = 16, .out_rows = 4, .seqs = 4, .pages = 64});
  expect_trace(trace, R"(
add a 9 max=2 score=1
add b 9 max=2
run -> a[0,3)?3 b[0,9)! | b+
run -> b[9,10)! a[3,5)?2 | b.
run -> a[5,8)?3 |
run -> a[8,9)! | a+
add c 9 max=1 like=a:9 score=1
add d 9 max=1 like=a:9
run -> a[9,10)! d[8,9)! c[0,1)?1 | a. d.
)");
}

// ---- random use ----

struct World {
  CacheLayout layout;
  SchedulerLimits limits;
  int64_t plans;  // in flight, at most
};

// What a request answers, whoever else is served: the texts' own next tokens.
std::vector<Token> expected_answer(const GenRequest& request, Token vocab, int64_t context) {
  uint64_t hash = 1;
  for (const Token token : request.prompt) hash = test::extend_hash(hash, token);
  std::vector<Token> answer;
  while (true) {
    answer.push_back(test::next_token(hash, vocab));
    hash = test::extend_hash(hash, answer.back());
    const auto size = static_cast<int64_t>(request.prompt.size() + answer.size());
    const bool stops = std::count(request.stop_ids.begin(), request.stop_ids.end(), answer.back()) > 0;
    if (stops || std::ssize(answer) == *request.max_tokens || size > context) return answer;
  }
}

class RandomUse {
 public:
  RandomUse(const World& world, uint32_t seed)
      : world_(world),
        random_(seed),
        scheduler_(world.layout, world.limits),
        runner_(world.layout, world.limits.pages, kSmallVocab) {}

  void play(int events) {
    for (int i = 0; i < events && !testing::Test::HasFailure(); ++i) {
      const uint32_t what = random_() % 16;
      if (what < 3) submit();
      if (what == 3) cancel();
      if (what > 3) step();
      scheduler_.check();
    }
    while (!scheduler_.idle() && !testing::Test::HasFailure()) {
      step();
      scheduler_.check();
    }
    EXPECT_EQ(live_.size(), 0u);
    EXPECT_EQ(scheduler_.pool().free_pages() + scheduler_.pool().idle_pages(), world_.limits.pages);
  }

  int64_t answered() const { return answered_; }
  const Scheduler& scheduler() const { return scheduler_; }

 private:
  static constexpr Token kSmallVocab = 5;  // so that texts often begin alike
  struct Live {
    GenRequest request;
    std::vector<Token> answer;
    int64_t scored = 0;
  };
  struct InFlight {
    StepPlan plan;
    std::vector<Token> drawn;
    bool ran = false;
  };

  void submit() {
    GenRequest request;
    const int64_t length = 1 + random_() % (random_() % 4 == 0 ? world_.limits.context : 24);
    const int64_t shared = texts_.empty() ? 0 : random_() % (length + 1);
    if (shared > 0) request.prompt = texts_[random_() % texts_.size()];
    request.prompt.resize(std::min<size_t>(request.prompt.size(), static_cast<size_t>(shared)));
    while (std::ssize(request.prompt) < length) request.prompt.push_back(static_cast<Token>(random_() % kSmallVocab));
    request.max_tokens = 1 + random_() % 20;
    request.priority = static_cast<int32_t>(random_() % 8 == 0 ? random_() % 3 : 0);
    if (random_() % 2 == 0) request.stop_ids = {static_cast<Token>(random_() % kSmallVocab)};
    request.prompt_logprobs = random_() % 8 == 0;
    try {
      const SeqId id = scheduler_.add(request);
      runner_.begin(id, request.prompt);
      live_[id] = {request, {}};
      texts_.push_back(request.prompt);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBusy);
      EXPECT_GE(scheduler_.waiting(), world_.limits.waiting);
    }
  }

  void cancel() {
    if (live_.empty()) return;
    const auto at = std::next(live_.begin(), random_() % live_.size());
    scheduler_.end(at->first, random_() % 3 == 0);
    live_.erase(at);
  }

  void step() {
    const bool more = std::ssize(in_flight_) < world_.plans && (in_flight_.empty() || random_() % 2 == 0);
    if (more) {
      StepPlan plan = scheduler_.schedule();
      ASSERT_TRUE(!plan.empty() || !in_flight_.empty() || scheduler_.idle());
      ASSERT_LE(plan.rows(), world_.limits.rows);
      ASSERT_LE(plan.out_rows(), world_.limits.out_rows);
      if (!plan.empty()) in_flight_.push_back({std::move(plan), {}});
    }
    // A step may be computed at any time before its commit, but in order.
    const size_t run = random_() % (in_flight_.size() + 1);
    for (size_t i = 0; i < run; ++i) compute(in_flight_[i]);
    if (more || in_flight_.empty()) return;
    compute(in_flight_.front());
    commit(in_flight_.front());
    in_flight_.pop_front();
  }

  void compute(InFlight& step) {
    if (!step.ran) step.drawn = runner_.run(step.plan);
    step.ran = true;
  }

  void commit(InFlight& step) {
    for (const StepPart& part : step.plan.parts) {
      const auto live = live_.find(part.seq);
      if (live != live_.end()) live->second.scored += part.scores;
    }
    for (const Drawn& told : scheduler_.commit(step.plan, step.drawn)) {
      Live& live = live_.at(told.seq);
      live.answer.push_back(told.token);
      if (!told.end) continue;
      ++answered_;
      EXPECT_EQ(live.answer, expected_answer(live.request, kSmallVocab, world_.limits.context));
      if (live.request.prompt_logprobs) EXPECT_EQ(live.scored, std::ssize(live.request.prompt) - 1);
      texts_.push_back(live.request.prompt);
      texts_.back().insert(texts_.back().end(), live.answer.begin(), live.answer.end());
      live_.erase(told.seq);
    }
  }

  const World& world_;
  std::mt19937 random_;
  Scheduler scheduler_;
  FakeRunner runner_;
  std::map<SeqId, Live> live_;
  std::deque<InFlight> in_flight_;
  std::vector<std::vector<Token>> texts_;
  int64_t answered_ = 0;
};

TEST(Scheduler, EveryAnswerIsRightUnderRandomUse) {
  const StateNeed all{Kind::kPerToken, 4, 0};
  const auto window = [](int64_t tokens) { return StateNeed{Kind::kWindow, 4, tokens}; };
  const std::vector<CacheLayout> layouts = {
      test::layout_of({{all, 4}}),
      test::layout_of({{window(6), 4}}),
      test::layout_of({{all, 4}, {window(5), 4}}),
      test::layout_of({{all, 6}, {window(9), 4}, {window(1), 2}}),
  };
  int64_t answered = 0, preemptions = 0, cached = 0;
  for (uint32_t round = 0; round < 120; ++round) {
    World world{layouts[round % layouts.size()], {.context = 60, .waiting = 6}, 1 + round / 4 % 2};
    world.limits.seqs = 1 + round % 7;
    world.limits.rows = world.limits.seqs + round % 19;
    world.limits.out_rows = world.limits.seqs + 1 + round % 3;
    const int64_t step = world.limits.rows * world.plans;
    world.limits.pages =
        world.layout.pages_for(world.limits.context, step) + std::ssize(world.layout.groups) + round % 11;
    RandomUse use(world, round);
    use.play(600);
    ASSERT_FALSE(HasFailure()) << "round " << round;
    answered += use.answered();
    preemptions += use.scheduler().preemptions();
    cached += use.scheduler().cached_tokens();
  }
  // All of it happened.
  EXPECT_GT(answered, 3000);
  EXPECT_GT(preemptions, 100);
  EXPECT_GT(cached, 10000);
}

}  // namespace
}  // namespace baize
