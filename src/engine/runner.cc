#include "engine/runner.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/check.h"
#include "base/clock.h"

namespace baize {

namespace {

constexpr int64_t kArrayAlignment = 64;  // bytes

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
    before_tables_ = bytes_;
    for (size_t g = 0; g < layout.groups.size(); ++g) {
      input_.block_tables[g] = add({limits.seqs, layout.groups[g].pages(limits.context)});
    }
  }
  const StepInput& input() const { return input_; }
  int64_t bytes() const { return bytes_; }
  int64_t bytes_before_tables() const { return before_tables_; }

 private:
  Tensor add(const Shape& shape) {
    void* data = base_ == nullptr ? nullptr : static_cast<std::byte*>(base_) + bytes_;
    const Tensor array(data, DType::kI32, shape, place_);
    bytes_ += (array.bytes() + kArrayAlignment - 1) / kArrayAlignment * kArrayAlignment;
    return array;
  }

  void* base_;
  Place place_;
  int64_t bytes_ = 0, before_tables_ = 0;
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

// A table for the limits, cut to `seqs` rows that hold `pages` pages and lie side by side. Rows grow by doubling, so
// that the shape of a step, by which a recorded one is known, seldom changes.
Tensor cut_table(const Tensor& table, int64_t seqs, int64_t pages) {
  const auto wide = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(std::max<int64_t>(pages, 1))));
  return Tensor(table.data, table.dtype, {seqs, std::min(wide, table.shape[1])}, table.place);
}

}  // namespace

CacheLayout cache_layout(const Model& model) { return make_cache_layout(state_needs(model.spec, model.precision)); }

StepCost dry_step(const Model& model, Backend& backend, Compute compute, const StepLimits& step) {
  const CacheLayout layout = cache_layout(model);
  const std::vector<StatePlace> places = layout.places(nullptr, backend.place(), 0);
  const std::vector<KvView> kv = kv_views(model.spec, model.precision, places);
  const ArrayPlan arrays(layout, step, nullptr, backend.place());
  StepInput input = cut_to(arrays.input(), step.rows, step.seqs, step.out_rows);
  input.max_kv_len = step.context;
  input.kv = kv;
  const std::unique_ptr<Ops> ops = backend.make_ops(compute, Arena());
  forward(model, input, *ops, {Tensor(nullptr, DType::kF32, {step.out_rows, model.spec.dims.vocab}, backend.place())});
  return ops->cost();
}

// The arrays of a step: filled on the host, then uploaded in one copy where the device has memory of its own.
class Runner::Inputs {
 public:
  Inputs(Backend& backend, const CacheLayout& layout, const StepLimits& limits, std::vector<KvView> kv)
      : backend_(backend), limits_(limits), kv_(std::move(kv)) {
    const ArrayPlan sizes(layout, limits, nullptr, {});
    const int64_t bytes = sizes.bytes();
    before_tables_ = sizes.bytes_before_tables();
    device_ = backend.allocate(bytes);
    device_arrays_ = ArrayPlan(layout, limits, device_.data(), device_.place()).input();
    if (device_.place().kind != Place::kHost) host_ = Buffer::host(bytes);
    host_arrays_ = host_.data() == nullptr ? device_arrays_ : ArrayPlan(layout, limits, host_.data(), {}).input();
  }

  /// `in_flight`: what kTokenInFlight stands for.
  StepInput upload(const StepPlan& plan, const std::unordered_map<SeqId, Token>& in_flight) {
    const auto seqs = static_cast<int64_t>(plan.parts.size());
    BAIZE_CHECK(plan.rows() <= limits_.rows && seqs <= limits_.seqs && plan.out_rows() <= limits_.out_rows);
    StepInput input = cut_to(device_arrays_, plan.rows(), seqs, plan.out_rows());
    fill_ids(plan, in_flight);
    input.max_kv_len = fill_rows(plan);
    for (size_t g = 0; g < plan.pages.size(); ++g) input.block_tables[g] = fill_table(plan, g);
    auto* out_rows = std::copy(plan.draw_rows.begin(), plan.draw_rows.end(), host_arrays_.out_rows.as<int32_t>());
    std::copy(plan.score_rows.begin(), plan.score_rows.end(), out_rows);
    if (host_.data() != nullptr) upload_arrays(input);
    input.kv = kv_;
    return input;
  }

 private:
  void fill_ids(const StepPlan& plan, const std::unordered_map<SeqId, Token>& in_flight) {
    auto* ids = host_arrays_.ids.as<int32_t>();
    std::copy(plan.ids.begin(), plan.ids.end(), ids);
    for (const StepPart& part : plan.parts) {
      ids += part.rows;
      if (ids[-1] != kTokenInFlight) continue;
      const auto found = in_flight.find(part.seq);
      BAIZE_CHECK(found != in_flight.end());
      ids[-1] = std::max(found->second, 0);  // none was drawn: the sequence has ended, any token will do
    }
  }

  // Returns the longest sequence.
  int64_t fill_rows(const StepPlan& plan) {
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

  // Returns the device's table.
  Tensor fill_table(const StepPlan& plan, size_t group) {
    const std::vector<int64_t>& counts = plan.page_counts[group];
    const Tensor& whole = host_arrays_.block_tables[group];
    if (counts.empty() || !whole.present()) return {};
    const auto seqs = static_cast<int64_t>(counts.size());
    const int64_t longest = *std::max_element(counts.begin(), counts.end());
    BAIZE_CHECK(longest <= whole.shape[1]);
    const Tensor table = cut_table(whole, seqs, longest);
    const int32_t* from = plan.pages[group].data();
    for (int64_t s = 0; s < seqs; ++s) {
      const int64_t count = counts[static_cast<size_t>(s)];
      std::copy_n(from, count, table.rows(s, 1).as<int32_t>());
      from += count;
    }
    return cut_table(device_arrays_.block_tables[group], seqs, longest);
  }

  // The arrays before the tables go with the first table, in one copy; of tables only what is used.
  void upload_arrays(const StepInput& input) {
    auto* to = static_cast<std::byte*>(device_.data());
    const auto* from = static_cast<const std::byte*>(host_.data());
    const auto used = [&](size_t g) { return input.block_tables[g].present() ? input.block_tables[g].bytes() : 0; };
    backend_.upload(to, from, before_tables_ + used(0));
    for (size_t g = 1; g < input.block_tables.size(); ++g) {
      const int64_t at = used(g) == 0 ? 0 : static_cast<std::byte*>(input.block_tables[g].data) - to;
      backend_.upload(to + at, from + at, used(g));
    }
  }

  Backend& backend_;
  StepLimits limits_;
  int64_t before_tables_ = 0;  // bytes
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
  for (const int64_t rows : {int64_t{1}, kFewRows, limits.seqs, limits.rows}) {
    if (rows > limits.rows) continue;
    const StepLimits step{rows, std::min(rows, limits.seqs), std::min(rows, limits.out_rows), limits.context};
    const StepCost cost = dry_step(model, backend, compute, step);
    memory.arena = std::max(memory.arena, cost.arena_bytes);
  }
  return memory;
}

Runner::Runner(std::shared_ptr<const Model> model, Backend& backend, Compute compute, const StepLimits& limits,
               int64_t pages)
    : model_(std::move(model)),
      tables_(model_->tables),
      backend_(backend),
      layout_(cache_layout(*model_)),
      limits_(limits),
      pages_(pages) {
  const Memory needed = memory(*model_, backend, compute, limits, pages);
  cache_ = backend.allocate(needed.cache);
  logits_ = backend.allocate(needed.logits);
  const std::vector<StatePlace> places = layout_.places(cache_.data(), cache_.place(), pages);
  inputs_ = std::make_unique<Inputs>(backend, layout_, limits, kv_views(model_->spec, model_->precision, places));
  ops_ = backend.make_ops(compute, Arena(backend.allocate(needed.arena)));
}

Runner::~Runner() = default;

// A step of one-token sequences as long as there may be so many, else of one prompt; their pages are any.
StepPlan Runner::trial(int64_t rows) const {
  StepPlan plan;
  const int64_t seqs = rows <= std::min(limits_.seqs, limits_.out_rows) ? rows : 1;
  for (int64_t s = 0; s < seqs; ++s) {
    plan.parts.push_back({.seq = static_cast<SeqId>(s), .rows = rows / seqs, .draw = s});
    plan.draw_rows.push_back(static_cast<int32_t>((s + 1) * (rows / seqs) - 1));
    plan.draws.push_back({.params = {.temperature = 0}, .history = {}, .drawn = {}, .bias = {}});
    for (size_t g = 0; g < layout_.groups.size(); ++g) {
      plan.page_counts[g].push_back(layout_.groups[g].pages(rows / seqs));
      for (int64_t page = 0; page < plan.page_counts[g].back(); ++page) {
        plan.pages[g].push_back(static_cast<int32_t>(page % pages_));
      }
    }
  }
  plan.ids.assign(static_cast<size_t>(rows), 0);
  return plan;
}

int64_t Runner::warm_up() {
  const EngineHabits habits = backend_.habits();
  if (!habits.warms_up) return limits_.rows;
  constexpr int64_t kSmallestBudget = 256;
  int64_t suited = 1;
  const int64_t most = std::min(limits_.rows, limits_.context);
  for (int64_t rows = 1, next = 0; rows <= most; rows = next) {
    next = rows == most ? most + 1 : std::min<int64_t>(rows < 16 ? 16 : 2 * rows, most);
    const StepPlan plan = trial(rows);
    run(plan);
    const double start = now_seconds();
    run(plan);
    if (rows <= kSmallestBudget || now_seconds() - start <= habits.step_seconds) suited = rows;
  }
  drawn_.clear();
  return suited;
}

StepResult Runner::run(const StepPlan& plan) {
  copy_pages(plan);
  const StepInput input = inputs_->upload(plan, drawn_);
  StepResult result;
  const Tensor logits(logits_.data(), DType::kF32, {input.out_count, model_->spec.dims.vocab}, logits_.place());
  try {
    forward(*model_, input, *ops_, {logits});
  } catch (...) {
    ops_->abandon_step();
    throw;
  }
  draw(plan, logits, result);
  tables_.looked_up(plan.rows());
  return result;
}

void Runner::copy_pages(const StepPlan& plan) {
  auto* pages = static_cast<std::byte*>(cache_.data());
  for (const PageCopy& copy : plan.copies) {
    backend_.copy(pages + copy.to * layout_.page_bytes, pages + copy.from * layout_.page_bytes, layout_.page_bytes);
  }
}

void Runner::draw(const StepPlan& plan, const Tensor& logits, StepResult& result) {
  const auto draws = static_cast<int64_t>(plan.draw_rows.size()), vocab = logits.shape[1];
  const auto hand_out = [&](std::vector<float>& to, int64_t row, int64_t count) {
    const size_t at = to.size();
    to.resize(at + static_cast<size_t>(count * vocab));
    backend_.download(to.data() + at, logits.rows(row, count).data,
                      count * logits.strides[0] * dtype_bytes(DType::kF32));
  };
  BAIZE_CHECK(static_cast<int64_t>(plan.draws.size()) == draws);
  if (!plan.score_rows.empty()) hand_out(result.scores, draws, logits.shape[0] - draws);
  for (const int32_t raw : plan.raw_draws) hand_out(result.raw, raw, 1);
  result.drawn.resize(plan.draws.size());
  if (draws > 0) ops_->sample({plan.draws, result.drawn}, logits.rows(0, draws));
  drawn_.clear();
  for (const StepPart& part : plan.parts) {
    if (part.draw >= 0) drawn_[part.seq] = result.drawn[static_cast<size_t>(part.draw)];
  }
}

}  // namespace baize
