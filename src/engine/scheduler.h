// Scheduler: decides what every step computes, for all requests at once. No clock, no IO, no device: requests and drawn
// tokens go in, StepPlans and ended sequences come out, and the same calls always give the same answers.
//
// A step has a budget of rows. Sequences that need one row (streams) come first, the rest goes to prompts, in pieces;
// a prompt never delays streams by more than one step. Prompts are computed in the order of arrival, but one longer
// than half the budget leaves the other half to shorter ones behind it. A sequence that finds no page takes those of
// the lowest rank (priority, then age), which waits again and is computed anew later. A request whose beginning
// another one is just computing waits for that instead of computing it twice.
//
// Plans may be in flight: schedule() may be called again before the last plan was committed; plans are committed in
// order. Owned by the engine, used under its lock.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"
#include "engine/prefix_tree.h"
#include "engine/request.h"
#include "engine/step_plan.h"

namespace baize {

struct SchedulerLimits {
  int64_t context = 0;     // tokens of the longest sequence
  int64_t rows = 512;      // of a step; at least `seqs`
  int64_t out_rows = 64;   // of a step; at least `seqs`
  int64_t seqs = 64;       // that run at once
  int64_t waiting = 1024;  // requests; one more is refused
  int64_t pages = 0;       // of the cache; at least those of one sequence
};

/// What commit tells of a sequence that drew a token.
struct Drawn {
  SeqId seq;
  int64_t draw = 0;                 // index into the plan's draw_rows
  Token token = 0;                  // -1: none could be drawn; the sequence has ended
  std::optional<FinishReason> end;  // the sequence has ended; if for kStop, `token` is the stop id
  Usage usage;                      // if it has ended
};

class Scheduler {
 public:
  /// `layout` must outlive it.
  Scheduler(const CacheLayout& layout, const SchedulerLimits& limits);
  ~Scheduler();

  /// The request waits for its turn. Ids ascend. Throws Error(kBusy) when too many wait.
  SeqId add(const GenRequest& request);
  /// Ends a sequence in whatever state it is; `spoilt`: what it computed is not to be used. It must not have ended.
  Usage end(SeqId seq, bool spoilt = false);

  /// The next step. Empty when there is nothing to compute, or nothing before the plans in flight are committed.
  StepPlan schedule();
  /// The oldest plan in flight is done: `drawn` are its tokens [draw_rows]. Returns what its draws came to.
  std::vector<Drawn> commit(const StepPlan& plan, std::span<const Token> drawn);

  bool idle() const { return entries_.empty(); }
  int64_t running() const { return static_cast<int64_t>(running_.size()); }
  int64_t waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t preemptions() const { return preemptions_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }  // of requests that ran
  int64_t cached_tokens() const { return cached_tokens_; }  // of those: found in the cache
  const BlockPool& pool() const { return pool_; }
  /// A sequence that has not ended.
  const Sequence& sequence(SeqId seq) const;

  /// Aborts unless all invariants hold. Runs by itself after every step in debug builds.
  void check() const;

 private:
  struct Entry;
  struct Rank {
    bool operator()(const Entry* a, const Entry* b) const;
  };
  struct Budget {
    int64_t rows, out_rows;
  };

  Entry& entry(SeqId seq) const;
  int64_t open_rows(const Entry& e) const;
  int64_t chunk_pages(Entry& e, int64_t rows);
  bool place(StepPlan& plan, Budget& left, Entry& e, int64_t rows);
  bool push_out_below(const Entry& e);
  void preempt(Entry& e);

  void make_way();
  void plan_streams(StepPlan& plan, Budget& left);
  void plan_prompts(StepPlan& plan, Budget& left);
  void plan_running(StepPlan& plan, Budget& left, bool long_ones, int64_t kept);
  void plan_waiting(StepPlan& plan, Budget& left, bool long_ones, int64_t kept);
  bool is_long(int64_t rows) const { return rows > limits_.rows / 2; }

  PrefixTree::Match match(const Entry& e) const;
  bool waits_for_running(const Entry& e) const;
  bool begins_like_running(Entry& e, int64_t matched) const;
  bool has_pages_for(const Entry& e, const PrefixTree::Match& found) const;
  bool admit(Entry& e, const PrefixTree::Match& found);
  std::optional<FinishReason> accept(Entry& e, Token token);

  const CacheLayout& layout_;
  const SchedulerLimits limits_;
  BlockPool pool_;
  PrefixTree tree_;
  std::unordered_map<SeqId, std::unique_ptr<Entry>> entries_;
  std::set<Entry*, Rank> waiting_;
  std::vector<Entry*> running_;  // by rank
  int64_t next_id_ = 0;
  int64_t serial_ = 0;  // of the plan made last
  int64_t preemptions_ = 0, prompt_tokens_ = 0, cached_tokens_ = 0;
};

}  // namespace baize
