#include "engine/runner.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace baize {

namespace {

constexpr int64_t kArrayAlignment = 64;  // bytes

int64_t blocks_for(const CacheGroup& group, int64_t tokens) { return (tokens + group.block - 1) / group.block; }

// The arrays of a step in one stretch of memory. With a null base only their sizes are known: a dry step's arrays.
class ArrayPlan {
 public:
  ArrayPlan(const CacheLayout& layout, const StepLimits& limits, void* base, Place place) : base_(base), place_(place) {
    input_.ids = add({limits.rows});
    input_.positions = add({limits.rows});
    input_.row_seq = add({limits.rows});
    input_.q_start = add({limits.seqs + 1});
    input_.kv_len = add({limits.seqs});
    input_.out_rows = add({limits.out_rows});
    for (size_t g = 0; g < layout.groups.size(); ++g) {
      input_.block_tables[g] = add({limits.seqs, blocks_for(layout.groups[g], limits.context)});
    }
  }
  const StepInput& input() const { return input_; }
  int64_t bytes() const { return bytes_; }

 private:
  Tensor add(const Shape& shape) {
    void* data = base_ == nullptr ? nullptr : static_cast<std::byte*>(base_) + bytes_;
    const Tensor array(data, DType::kI32, shape, place_);
    bytes_ += (array.bytes() + kArrayAlignment - 1) / kArrayAlignment * kArrayAlignment;
    return array;
  }

  void* base_;
  Place place_;
  int64_t bytes_ = 0;
  StepInput input_;
};

// Shrinks arrays made for the limits to the extents of one step.
StepInput cut_to(const StepInput& arrays, int64_t rows, int64_t seqs, int64_t out_rows) {
  StepInput input = arrays;
  input.rows = rows;
  input.seqs = seqs;
  input.out_count = out_rows;
  input.ids = arrays.ids.rows(0, rows);
  input.positions = arrays.positions.rows(0, rows);
  input.row_seq = arrays.row_seq.rows(0, rows);
  input.q_start = arrays.q_start.rows(0, seqs + 1);
  input.kv_len = arrays.kv_len.rows(0, seqs);
  input.out_rows = arrays.out_rows.rows(0, out_rows);
  for (Tensor& table : input.block_tables) {
    if (table.present()) table = table.rows(0, seqs);
  }
  return input;
}

}  // namespace

CacheLayout cache_layout(const Model& model) { return make_cache_layout(state_needs(model.spec, model.precision)); }

StepCost dry_step(const Model& model, Backend& backend, Compute compute, int64_t rows, int64_t out_rows,
                  int64_t kv_len) {
  const CacheLayout layout = cache_layout(model);
  const std::vector<StatePlace> places = layout.places(nullptr, backend.place(), 0);
  const std::vector<KvView> kv = kv_views(model.spec, model.precision, places);
  const ArrayPlan arrays(layout, {rows, 1, out_rows, kv_len}, nullptr, backend.place());
  StepInput input = cut_to(arrays.input(), rows, 1, out_rows);
  input.max_kv_len = kv_len;
  input.kv = kv;
  const std::unique_ptr<Ops> ops = backend.make_ops(compute, Arena());
  forward(model, input, *ops, {Tensor(nullptr, DType::kF32, {out_rows, model.spec.dims.vocab}, backend.place())});
  return ops->cost();
}

// Host mirror of the device arrays: filled, then uploaded in one copy.
class Runner::Inputs {
 public:
  Inputs(Backend& backend, const CacheLayout& layout, const StepLimits& limits, std::vector<KvView> kv)
      : backend_(backend), limits_(limits), kv_(std::move(kv)) {
    const int64_t bytes = ArrayPlan(layout, limits, nullptr, {}).bytes();
    device_ = backend.allocate(bytes);
    host_ = Buffer::host(bytes);
    device_arrays_ = ArrayPlan(layout, limits, device_.data(), device_.place()).input();
    host_arrays_ = ArrayPlan(layout, limits, host_.data(), {}).input();
  }

  StepInput upload(const StepPlan& plan) {
    const auto seqs = static_cast<int64_t>(plan.parts.size());
    const auto out_rows = static_cast<int64_t>(plan.out_rows.size());
    BAIZE_CHECK(plan.rows() <= limits_.rows && seqs <= limits_.seqs && out_rows <= limits_.out_rows);
    StepInput input = cut_to(device_arrays_, plan.rows(), seqs, out_rows);
    input.max_kv_len = fill_rows(plan);
    for (size_t g = 0; g < plan.pages.size(); ++g) fill_table(plan, g);
    std::copy(plan.out_rows.begin(), plan.out_rows.end(), host_arrays_.out_rows.as<int32_t>());
    backend_.upload(device_.data(), host_.data(), host_.bytes());
    input.kv = kv_;
    return input;
  }

 private:
  // Returns the longest sequence.
  int64_t fill_rows(const StepPlan& plan) {
    std::copy(plan.ids.begin(), plan.ids.end(), host_arrays_.ids.as<int32_t>());
    auto* positions = host_arrays_.positions.as<int32_t>();
    auto* row_seq = host_arrays_.row_seq.as<int32_t>();
    auto* q_start = host_arrays_.q_start.as<int32_t>();
    int64_t row = 0, longest = 0;
    for (size_t s = 0; s < plan.parts.size(); ++s) {
      const StepPart& part = plan.parts[s];
      q_start[s] = static_cast<int32_t>(row);
      std::iota(positions + row, positions + row + part.rows, static_cast<int32_t>(part.first));
      std::fill_n(row_seq + row, part.rows, static_cast<int32_t>(s));
      row += part.rows;
      host_arrays_.kv_len.as<int32_t>()[s] = static_cast<int32_t>(part.first + part.rows);
      longest = std::max(longest, part.first + part.rows);
    }
    q_start[plan.parts.size()] = static_cast<int32_t>(row);
    BAIZE_CHECK(longest <= limits_.context);
    return longest;
  }

  void fill_table(const StepPlan& plan, size_t group) {
    const int32_t* from = plan.pages[group].data();
    for (size_t s = 0; s < plan.page_counts[group].size(); ++s) {
      const Tensor row = host_arrays_.block_tables[group].rows(static_cast<int64_t>(s), 1);
      const int64_t count = plan.page_counts[group][s];
      BAIZE_CHECK(count <= row.shape[1]);
      std::copy_n(from, count, row.as<int32_t>());
      from += count;
    }
  }

  Backend& backend_;
  StepLimits limits_;
  std::vector<KvView> kv_;
  Buffer device_, host_;
  StepInput device_arrays_, host_arrays_;
};

Runner::Memory Runner::memory(const Model& model, Backend& backend, Compute compute, const StepLimits& limits,
                              int64_t pages) {
  const CacheLayout layout = cache_layout(model);
  Memory memory;
  memory.cache = pages * layout.page_bytes;
  memory.inputs = ArrayPlan(layout, limits, nullptr, {}).bytes();
  memory.logits = limits.out_rows * model.spec.dims.vocab * dtype_bytes(DType::kF32);
  // Kernels of each range of rows have their own needs.
  for (const int64_t rows : {int64_t{1}, kFewRows, limits.rows}) {
    if (rows > limits.rows) continue;
    const int64_t out_rows = std::min(rows, limits.out_rows);
    const StepCost cost = dry_step(model, backend, compute, rows, out_rows, limits.context);
    memory.arena = std::max(memory.arena, cost.arena_bytes);
  }
  return memory;
}

Runner::Runner(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const StepLimits& limits,
               int64_t pages)
    : model_(std::move(model)), backend_(backend), layout_(cache_layout(*model_)) {
  const Memory needed = memory(*model_, backend, compute, limits, pages);
  cache_ = backend.allocate(needed.cache);
  logits_ = backend.allocate(needed.logits);
  const std::vector<StatePlace> places = layout_.places(cache_.data(), cache_.place(), pages);
  inputs_ = std::make_unique<Inputs>(backend, layout_, limits, kv_views(model_->spec, model_->precision, places));
  ops_ = backend.make_ops(compute, Arena(backend.allocate(needed.arena)));
}

Runner::~Runner() = default;

StepResult Runner::run(const StepPlan& plan) {
  const StepInput input = inputs_->upload(plan);
  StepResult result;
  const Tensor logits(logits_.data(), DType::kF32, {input.out_count, model_->spec.dims.vocab}, logits_.place());
  forward(*model_, input, *ops_, {logits});
  if (!plan.draws.empty()) {
    BAIZE_CHECK(plan.draws.size() == plan.out_rows.size());
    result.drawn.resize(plan.draws.size());
    ops_->sample({plan.draws, result.drawn}, logits);
  } else if (input.out_count > 0) {
    result.logits.resize(static_cast<size_t>(logits.shape.elements()));
    backend_.download(result.logits.data(), logits.data, logits.bytes());
  }
  return result;
}

}  // namespace baize
