// Runner: carries out StepPlans on one backend. It owns the memory of a running model: the cache pool, the arena and
// the step's input arrays, all at fixed addresses, sized beforehand by dry runs of the same steps. Used by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/cache_layout.h"
#include "engine/step_plan.h"
#include "model/model.h"
#include "ops/backend.h"

namespace baize {

/// How large a step is, or may be.
struct StepLimits {
  int64_t rows = 0;
  int64_t seqs = 1;
  int64_t out_rows = 1;
  int64_t context = 0;  // tokens in the cache of the longest sequence, after the step
};

CacheLayout cache_layout(const Model& model);

/// What a step of that size costs: counted, nothing is computed. `model` may be dry.
StepCost dry_step(const Model& model, Backend& backend, Compute compute, const StepLimits& step);

class Runner {
 public:
  /// Memory that a Runner takes.
  struct Memory {
    int64_t cache = 0;   // bytes of `pages` cache pages
    int64_t arena = 0;   // temporary memory of the largest step
    int64_t inputs = 0;  // the step's arrays
    int64_t logits = 0;
    int64_t total() const { return cache + arena + inputs + logits; }
  };
  static Memory memory(const Model& model, Backend& backend, Compute compute, const StepLimits& limits, int64_t pages);

  /// `backend` must outlive it. Throws Error(kResource) when the memory cannot be had.
  Runner(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const StepLimits& limits,
         int64_t pages);
  ~Runner();

  const CacheLayout& layout() const { return layout_; }

  /// Where the backend wants it: runs steps of several sizes, so that kernels are chosen and loaded before the first
  /// request, and returns the rows of the largest that took no longer than EngineHabits::step_seconds; else the limit.
  /// What it writes to the cache is never read. Before the first plan.
  int64_t warm_up();

  /// Computes the step and returns when it is done. The plan must stay within the limits, and plans must come in the
  /// order in which they were made. After an exception nothing was drawn, and the same plan may be run again.
  StepResult run(const StepPlan& plan);

 private:
  class Inputs;

  StepPlan trial(int64_t rows) const;
  void copy_pages(const StepPlan& plan);
  void draw(const StepPlan& plan, const Tensor& logits, StepResult& result);

  std::shared_ptr<const Model> model_;
  MappedTables tables_;
  Backend& backend_;
  CacheLayout layout_;
  StepLimits limits_;
  int64_t pages_;
  Buffer cache_, logits_;
  std::unique_ptr<Inputs> inputs_;
  std::unique_ptr<Ops> ops_;
  std::unordered_map<SeqId, Token> drawn_;  // by the last plan: what kTokenInFlight of the next one stands for
};

}  // namespace baize
