#include "engine/scheduler.h"

#include <algorithm>

#include "base/check.h"
#include "base/mutate.h"

namespace baize {

struct Scheduler::Entry : Sequence {
  Entry(SeqId seq_id, const GenRequest& request, const CacheLayout& layout, BlockPool& pool)
      : Sequence(seq_id, request.prompt, layout, pool),
        prompt(size()),
        priority(request.priority),
        max_new(request.max_tokens),
        stop_ids(request.stop_ids),
        n_scored(request.prompt_logprobs ? 0 : prompt - 1) {}

  enum class State : uint8_t { kWaiting, kRunning, kEnded };  // ended: gone, but for its plans in flight

  const int64_t prompt;
  const int32_t priority;
  const std::optional<int64_t> max_new;
  const std::vector<Token> stop_ids;
  State state = State::kWaiting;
  int64_t n_scored;        // prompt rows whose logits were handed out, or are not wanted
  int64_t cached = -1;     // prompt tokens found in the cache when it first ran
  int64_t in_flight = 0;   // plans
  int64_t placed_in = -1;  // serial of the last plan with a part of it
  PrefixTree::Path path;
  SeqId waits_for;  // a running sequence that computes the same beginning, up to `waits_until` tokens
  int64_t waits_until = 0;

  int64_t new_tokens() const { return size() - prompt; }
  bool scores() const { return n_scored < prompt - 1; }
  /// Tokens that need not be computed if they are found in the cache: the last one's logits are wanted, and those of
  /// the prompt rows to score.
  int64_t most_reusable() const { return scores() ? n_scored : size() - 1; }
};

bool Scheduler::Rank::operator()(const Entry* a, const Entry* b) const {
  return a->priority != b->priority ? a->priority > b->priority : a->id < b->id;
}

Scheduler::Scheduler(const CacheLayout& layout, const SchedulerLimits& limits)
    : layout_(layout), limits_(limits), pool_(limits.pages), tree_(layout, pool_) {
  BAIZE_CHECK(limits.rows >= limits.seqs && limits.out_rows >= limits.seqs && limits.seqs > 0);
}

Scheduler::~Scheduler() = default;

Scheduler::Entry& Scheduler::entry(SeqId seq) const {
  const auto found = entries_.find(seq);
  BAIZE_CHECK(found != entries_.end());
  return *found->second;
}

const Sequence& Scheduler::sequence(SeqId seq) const { return entry(seq); }

SeqId Scheduler::add(const GenRequest& request) {
  if (waiting() >= limits_.waiting) {
    fail(ErrorKind::kBusy, "{} requests wait already, which is the most this server lets wait: try again later",
         waiting());
  }
  const SeqId id{next_id_++};
  auto& made = entries_[id] = std::make_unique<Entry>(id, request, layout_, pool_);
  waiting_.insert(made.get());
  return id;
}

// ---- what there is to compute ----

// Rows that the sequence can still be planned for.
int64_t Scheduler::open_rows(const Entry& e) const {
  const bool last_draw_in_flight =
      e.n_drawing > 0 && (e.target() > limits_.context || (e.max_new && e.new_tokens() + e.n_drawing >= *e.max_new));
  return last_draw_in_flight ? 0 : e.target() - e.n_planned;
}

// Takes pages for up to `rows` more rows, evicting what nobody uses. Returns for how many it was enough.
int64_t Scheduler::chunk_pages(Entry& e, int64_t rows) {
  SequenceCache& cache = e.cache;
  cache.slide(e.n_computed);
  while (!cache.reserve(e.n_planned + rows)) {
    if (!tree_.evict()) return std::clamp<int64_t>(cache.covered() - e.n_planned, 0, rows);
  }
  return rows;
}

// Plans up to `rows` rows of a running sequence, as far as pages and output rows go. If there are none, lower ranks
// lose theirs, or the sequence itself if it is the lowest. False when nothing was planned.
bool Scheduler::place(StepPlan& plan, Budget& left, Entry& e, int64_t rows) {
  rows = std::min(rows, left.rows);
  if (e.scores()) rows = std::min(rows, left.out_rows - 1);
  if (rows <= 0 || left.out_rows <= 0) return false;
  int64_t covered = 0;
  while ((covered = chunk_pages(e, rows)) == 0) {
    if (!push_out_below(e)) {
      if (e.in_flight == 0 && running_.size() > 1) preempt(e);
      return false;
    }
  }
  StepPlan::Want want;
  want.draw = e.n_planned + covered == e.target();
  const int64_t scored = std::min(e.n_planned + covered, e.prompt - 1);
  want.scores = std::max<int64_t>(0, scored - e.n_scored);
  e.n_scored += want.scores;
  plan.add(e, covered, want);
  left.rows -= covered;
  left.out_rows -= want.scores + (want.draw ? 1 : 0);
  e.placed_in = serial_;
  ++e.in_flight;
  return true;
}

// Takes the pages of the lowest-ranking sequence below `e` that neither runs now nor was placed in this step.
bool Scheduler::push_out_below(const Entry& e) {
  for (auto victim = running_.rbegin(); victim != running_.rend() && *victim != &e; ++victim) {
    if ((*victim)->in_flight > 0) continue;
    preempt(**victim);
    return true;
  }
  return false;
}

void Scheduler::preempt(Entry& e) {
  BAIZE_CHECK(e.state == Entry::State::kRunning && e.in_flight == 0);
  tree_.finish(e.id, e.computed(), e.cache, e.path);
  e.cache.clear();
  e.n_computed = e.n_planned = 0;
  e.state = Entry::State::kWaiting;
  std::erase(running_, &e);
  waiting_.insert(&e);
  ++preemptions_;
}

// ---- one step ----

StepPlan Scheduler::schedule() {
  ++serial_;
  StepPlan plan;
  Budget left{limits_.rows, limits_.out_rows};
  make_way();
  plan_streams(plan, left);
  plan_prompts(plan, left);
#ifndef NDEBUG
  check();
#endif
  return plan;
}

// A waiting request of a higher priority takes the place, or the pages, of running ones of a lower one.
void Scheduler::make_way() {
  while (!waiting_.empty() && !running_.empty()) {
    Entry& first = **waiting_.begin();
    Entry& last = *running_.back();
    if (first.priority <= last.priority || last.in_flight > 0 || waits_for_running(first)) return;
    if (running() < limits_.seqs && has_pages_for(first, match(first))) return;
    preempt(last);
  }
}

void Scheduler::plan_streams(StepPlan& plan, Budget& left) {
  for (size_t i = 0; i < running_.size();) {
    Entry* e = running_[i];
    if (open_rows(*e) == 1) place(plan, left, *e, 1);
    if (i < running_.size() && running_[i] == e) ++i;  // else it lost its own place
  }
}

// Short prompts first, but where there are long ones, half of what the streams left is kept for those.
void Scheduler::plan_prompts(StepPlan& plan, Budget& left) {
  const bool any_long = std::any_of(running_.begin(), running_.end(),
                                    [&](const Entry* e) { return e->placed_in != serial_ && is_long(open_rows(*e)); });
  const int64_t kept = any_long ? left.rows / 2 : 0;
  plan_running(plan, left, false, kept);
  plan_waiting(plan, left, false, kept);
  plan_running(plan, left, true, 0);
  plan_waiting(plan, left, true, 0);
}

void Scheduler::plan_running(StepPlan& plan, Budget& left, bool long_ones, int64_t kept) {
  const std::vector<Entry*> candidates = running_;  // placing one may push out others
  for (Entry* e : candidates) {
    if (e->state != Entry::State::kRunning || e->placed_in == serial_) continue;
    const int64_t rows = open_rows(*e);
    if (rows > 0 && is_long(rows) == long_ones) place(plan, left, *e, std::min(rows, left.rows - kept));
  }
}

// In order, those that can begin now; none overtakes one that only lacks pages.
void Scheduler::plan_waiting(StepPlan& plan, Budget& left, bool long_ones, int64_t kept) {
  int64_t slots = limits_.seqs - running();
  for (auto at = waiting_.begin(); at != waiting_.end() && slots > 0 && left.rows > kept && left.out_rows > 0;) {
    Entry& e = **at++;
    if (waits_for_running(e)) continue;
    const PrefixTree::Match found = match(e);
    if (begins_like_running(e, found.tokens)) continue;
    if (!has_pages_for(e, found)) return;
    const int64_t rows = e.size() - found.tokens;
    if (is_long(rows) && !long_ones) {
      kept = std::max(kept, left.rows / 2);
      --slots;
      continue;
    }
    if (!admit(e, found)) return;
    place(plan, left, e, std::min(rows, left.rows - kept));
    --slots;
  }
}

// ---- beginning ----

PrefixTree::Match Scheduler::match(const Entry& e) const { return tree_.match(e.tokens, e.most_reusable()); }

// Whether what `e` waits for is still being computed.
bool Scheduler::waits_for_running(const Entry& e) const {
  const auto found = entries_.find(e.waits_for);
  return found != entries_.end() && found->second->state == Entry::State::kRunning &&
         found->second->n_computed < e.waits_until;
}

// Whether a running sequence is about to compute at least a block more of the beginning of `e` than was matched.
bool Scheduler::begins_like_running(Entry& e, int64_t matched) const {
  if (mutated("schedule.share")) return false;
  const int64_t most = e.most_reusable();
  for (const Entry* other : running_) {
    if (other->n_computed >= other->size() - 1) continue;
    const auto differ =
        std::mismatch(e.tokens.begin(), e.tokens.begin() + most, other->tokens.begin(), other->tokens.end());
    const int64_t common = differ.first - e.tokens.begin();
    int64_t shared = common;  // in full blocks of every group
    for (const CacheGroup& group : layout_.groups) shared = std::min(shared, common / group.block * group.block);
    if (shared <= matched || other->n_computed >= shared) continue;
    e.waits_for = other->id;
    e.waits_until = shared;
    return true;
  }
  return false;
}

// Whether the whole text and one more block will find pages beside what the running prompts still need.
bool Scheduler::has_pages_for(const Entry& e, const PrefixTree::Match& found) const {
  if (running_.empty()) return true;
  const auto groups = static_cast<int64_t>(layout_.groups.size());
  int64_t need = layout_.pages_for(e.size() + 1, limits_.rows) + groups - tree_.pages_in_use(found);
  for (const Entry* other : running_) {
    const int64_t wanted = layout_.pages_for(other->size() + 1, limits_.rows);
    need += groups + std::max<int64_t>(0, wanted - other->cache.held());
  }
  return need <= pool_.free_pages() + pool_.idle_pages();
}

bool Scheduler::admit(Entry& e, const PrefixTree::Match& found) {
  if (found.tokens > 0 && !tree_.adopt(found, e.cache, e.path)) return false;
  e.n_computed = e.n_planned = found.tokens;
  if (e.cached < 0) {
    e.cached = found.tokens;
    prompt_tokens_ += e.prompt;
    cached_tokens_ += e.cached;
  }
  e.state = Entry::State::kRunning;
  waiting_.erase(&e);
  running_.insert(std::lower_bound(running_.begin(), running_.end(), &e, Rank()), &e);
  return true;
}

// ---- what a step came to ----

std::vector<Drawn> Scheduler::commit(const StepPlan& plan, std::span<const Token> drawn) {
  BAIZE_CHECK(drawn.size() == plan.draw_rows.size());
  std::vector<Drawn> result;
  for (const StepPart& part : plan.parts) {
    Entry& e = entry(part.seq);
    --e.in_flight;
    if (e.state == Entry::State::kEnded) {
      if (e.in_flight == 0) entries_.erase(part.seq);
      continue;
    }
    e.n_computed = part.first + part.rows;
    e.cache.copies.clear();
    if (part.draw < 0) {
      tree_.publish(e.id, e.computed(), e.cache, e.path);
      continue;
    }
    --e.n_drawing;
    Drawn& told = result.emplace_back();
    told.seq = part.seq;
    told.draw = part.draw;
    told.token = drawn[static_cast<size_t>(part.draw)];
    if (told.token >= 0) {
      tree_.publish(e.id, e.computed(), e.cache, e.path);
      told.end = accept(e, told.token);
    }
    if (told.token < 0 || told.end) {
      told.usage = end(e.id, told.token < 0);
      if (told.end == FinishReason::kStop) --told.usage.new_tokens;
    }
  }
#ifndef NDEBUG
  check();
#endif
  return result;
}

// Appends a token; whether the sequence ends with it.
std::optional<FinishReason> Scheduler::accept(Entry& e, Token token) {
  e.tokens.push_back(token);
  if (std::find(e.stop_ids.begin(), e.stop_ids.end(), token) != e.stop_ids.end()) return FinishReason::kStop;
  if (e.max_new && e.new_tokens() >= *e.max_new) return FinishReason::kLength;
  if (e.size() > limits_.context) return FinishReason::kContext;
  return std::nullopt;
}

Usage Scheduler::end(SeqId seq, bool spoilt) {
  Entry& e = entry(seq);
  BAIZE_CHECK(e.state != Entry::State::kEnded);
  const Usage usage{
      .prompt_tokens = e.prompt, .cached_tokens = std::max<int64_t>(e.cached, 0), .new_tokens = e.new_tokens()};
  if (e.state == Entry::State::kWaiting) {
    waiting_.erase(&e);
  } else {
    std::erase(running_, &e);
    if (spoilt && !mutated("schedule.spoilt")) {
      tree_.disown(e.id, e.path);
    } else {
      tree_.finish(e.id, e.computed(), e.cache, e.path);
    }
  }
  e.state = Entry::State::kEnded;
  if (e.in_flight == 0) entries_.erase(seq);  // else its pages stay until the last plan that uses them is done
  return usage;
}

// ---- invariants ----

void Scheduler::check() const {
  pool_.check();
  tree_.check();
  BAIZE_CHECK(running() <= limits_.seqs);
  BAIZE_CHECK(std::is_sorted(running_.begin(), running_.end(), Rank()));
  std::vector<int32_t> refs(static_cast<size_t>(pool_.pages()), 0);
  int64_t ended = 0;
  for (const auto& [id, owned] : entries_) {
    const Entry& e = *owned;
    BAIZE_CHECK(e.id == id && e.prompt > 0 && e.size() >= e.prompt);
    BAIZE_CHECK(0 <= e.n_computed && e.n_computed <= e.n_planned && e.n_planned <= e.target());
    BAIZE_CHECK((e.in_flight == 0) == (e.n_planned == e.n_computed && e.n_drawing == 0) ||
                e.state == Entry::State::kEnded);
    ended += e.state == Entry::State::kEnded;
    if (e.state == Entry::State::kEnded) BAIZE_CHECK(e.in_flight > 0);
    if (e.state == Entry::State::kWaiting)
      BAIZE_CHECK(e.n_planned == 0 && e.cache.held() == 0 && waiting_.contains(owned.get()));
    if (e.state == Entry::State::kRunning) {
      BAIZE_CHECK(e.cache.covered() >= e.n_planned && e.n_planned <= limits_.context);
      BAIZE_CHECK(e.cache.valid_at(e.n_computed));
    }
    for (size_t g = 0; g < e.cache.groups(); ++g) {
      for (int64_t b = 0; b < e.cache.blocks(g); ++b) {
        if (const BlockPool::Ref& page = e.cache.page(g, b)) ++refs[static_cast<size_t>(page.page())];
      }
    }
    for (const SequenceCache::Copy& copy : e.cache.copies) ++refs[static_cast<size_t>(copy.from.page())];
  }
  BAIZE_CHECK(entries_.size() == waiting_.size() + running_.size() + static_cast<size_t>(ended));
  tree_.count_refs(refs);
  for (size_t page = 0; page < refs.size(); ++page) BAIZE_CHECK(refs[page] == pool_.refs(static_cast<int32_t>(page)));
}

}  // namespace baize
