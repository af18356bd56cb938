#include "backend/cuda/cuda_ops.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "backend/cuda/check.h"
#include "backend/cuda/linear_kernels.h"
#include "backend/cuda/walk_plan.h"
#include "ops/philox.h"

namespace baize::cuda {

namespace {

constexpr int64_t kMaxCounters = 4096;
constexpr int64_t kGraphRows = 256;  // larger steps gain nothing from a graph
constexpr size_t kMaxKnown = 128;
constexpr size_t kMaxDraws = 4096;  // at once
constexpr int kLeastTileRows = 5;   // of a sequence that is attended by tiles
constexpr int64_t kMaxTunedHeadDim = 512;

// What the device draws; the others' logits come to the host.
bool drawn_on_device(const SampleRow& row) {
  const SampleParams& p = row.params;
  return row.bias.empty() && p.typical_p >= 1 &&
         (row.history.empty() || (p.repetition_penalty == 1 && p.frequency_penalty == 0 && p.presence_penalty == 0));
}

SampleDraw device_draw(const SampleParams& p) {
  const double uniform = uniform_draw(p.seed, static_cast<uint64_t>(p.position));
  return {p.temperature, p.top_p, p.min_p, p.top_k, static_cast<uint64_t>(uniform * 0x1p53) << 11};
}

bool has_other_op(const std::vector<Op>& ops) {
  return std::any_of(ops.begin(), ops.end(), [](const Op& op) { return std::holds_alternative<OtherOp>(op); });
}

// Heads that lie apart, or are larger than the tuned kernels take.
bool attends_as_variant(const AttnArgs& args, const Tensor& q, const Tensor& out) {
  const int64_t dim = args.shape.head_dim;
  return q.strides[1] != dim || out.strides[1] != dim || dim > kMaxTunedHeadDim;
}

}  // namespace

CudaOps::CudaOps(Precision precision, Arena arena, cudaStream_t stream, int sms)
    : Ops(precision, std::move(arena)), times_(dry() ? nullptr : std::getenv("BAIZE_CUDA_TIMES")) {
  exec_.stream = stream;
  exec_.sms = sms;
  if (dry()) return;
  gemm_ = std::make_unique<Gemm>();
  exec_.gemm = gemm_.get();
  check(cudaMalloc(&counters_, kMaxCounters * sizeof(int)), "hold counters");
  check(cudaMemset(counters_, 0, kMaxCounters * sizeof(int)), "clear counters");
  check(cudaMalloc(&keys_, kMaxDraws * sizeof(uint64_t)), "hold choices");
  check(cudaMalloc(&draws_, kMaxDraws * sizeof(SampleDraw)), "hold choices");
  check(cudaMalloc(&drawn_, kMaxDraws * sizeof(int32_t)), "hold choices");
  check(cudaMalloc(&barrier_, 2 * sizeof(unsigned)), "hold counters");
  check(cudaMemset(barrier_, 0, 2 * sizeof(unsigned)), "clear counters");
  if (const char* set = std::getenv("BAIZE_CUDA_WALK"); set != nullptr && *set == '0') walk_ = false;
  if (std::getenv("BAIZE_CUDA_TRACE") != nullptr) {
    check(cudaMalloc(&trace_, sizeof(long long) * 4 * kTraceSteps), "hold a trace");
    check(cudaMemset(trace_, 0, sizeof(long long) * 4 * kTraceSteps), "clear a trace");
  }
  check(cudaMallocHost(&host_keys_, kMaxDraws * sizeof(uint64_t)), "hold choices");
  check(cudaMallocHost(&host_draws_, kMaxDraws * sizeof(SampleDraw)), "hold choices");
  check(cudaMallocHost(&host_drawn_, kMaxDraws * sizeof(int32_t)), "hold choices");
}

CudaOps::~CudaOps() {
  cudaStreamSynchronize(exec_.stream);
  write_trace();
  forget_all();
  for (void* memory : expert_memory_) cudaFree(memory);
  cudaFree(trace_);
  cudaFree(barrier_);
  cudaFreeHost(host_drawn_);
  cudaFreeHost(host_draws_);
  cudaFreeHost(host_keys_);
  cudaFree(drawn_);
  cudaFree(draws_);
  cudaFree(keys_);
  cudaFree(counters_);
}

// Lines of: block, step, clocks of the step's begin, its input, its products, the grid's barrier (0: not marked).
void CudaOps::write_trace() {
  const char* path = std::getenv("BAIZE_CUDA_TRACE");
  if (traced_ == 0 || path == nullptr) return;
  std::vector<long long> clocks(static_cast<size_t>(4 * traced_ * exec_.sms));
  cudaMemcpy(clocks.data(), trace_, clocks.size() * sizeof(long long), cudaMemcpyDeviceToHost);
  std::ofstream file(path);
  const auto steps = static_cast<size_t>(traced_);
  for (size_t i = 0; i < clocks.size(); i += 4) {
    file << i / 4 / steps << ' ' << i / 4 % steps;
    for (size_t j = 0; j < 4; ++j) file << ' ' << clocks[i + j];
    file << '\n';
  }
}

void CudaOps::forget_all() {
  cudaStreamSynchronize(exec_.stream);
  for (auto& [key, known] : known_) {
    if (known.graph != nullptr) cudaGraphExecDestroy(known.graph);
    for (void* memory : known.memory) cudaFree(memory);
  }
  known_.clear();
}

void CudaOps::do_begin_step() {
  ops_.clear();
  step_ = input();
}

void CudaOps::do_end_step() { flush(); }

void CudaOps::do_embed(const Embed& table, const Tensor& out) { record(EmbedOp{table, out}); }

void CudaOps::do_linear(std::span<const LinearCall> calls, void* workspace) {
  LinearOp op{{}, static_cast<int>(calls.size()), workspace};
  std::copy(calls.begin(), calls.end(), op.calls.begin());
  record(op);
}

void CudaOps::do_norm(const Tensor& x, const Norm& norm, const Tensor& out) { record(NormOp{x, norm, out}); }

void CudaOps::do_add(const Tensor& residual, const Tensor& x) { record(AddOp{residual, x}); }

void CudaOps::do_add_norm(const Tensor& residual, const Tensor& x, const Norm& norm, const Tensor& out) {
  if (!dry() && join_experts(x, {residual, norm, out})) return;
  record(AddNormOp{residual, x, norm, out});
}

void CudaOps::do_gated_activation(const Tensor& gate_up, Activation activation, const Tensor& out) {
  record(GatedOp{gate_up, activation, out});
}

void CudaOps::do_qk_norm_rope_store(const QkvArgs& args, const Tensor& qkv, const KvView& kv, const Tensor& q) {
  record(QkvOp{args, qkv, kv, q});
}

// Sequences of many rows are computed by tiles, the others row by row; a step can have both.
void CudaOps::do_attention(const AttnArgs& args, const Tensor& q, const KvView& kv, const Tensor& out) {
  if (attends_as_variant(args, q, out)) return do_attention_variant(args, q, kv, out);
  AttentionOp op{args, q, kv, out, false, true, {}, nullptr};
  const StepInput& in = input();
  op.tiles = in.rows >= in.seqs + kLeastTileRows - 1 && tiles_attention_supports(args, q, kv);
  op.by_rows = !op.tiles || in.seqs > 1;
  if (op.by_rows) {
    op.plan = plan_rows_attention(args, in, q, kv, exec_.sms);
    if (op.tiles) op.plan.most_rows = kLeastTileRows - 1;
    const Scope scope(*this);
    if (op.plan.partial_floats > 0) {
      op.partials = static_cast<float*>(temp(DType::kF32, {op.plan.partial_floats}).data);
    }
  }
  record(op);
}

void CudaOps::do_gather_out_rows(const Tensor& x, const Tensor& out) { record(GatherOp{x, out}); }

void CudaOps::run(const Op& op) {
  struct Runner {
    CudaOps& o;
    cudaStream_t s;
    void operator()(const EmbedOp& op) const { cuda::embed(s, op.table, o.step_.ids, op.out); }
    void operator()(const LinearOp& op) const {
      const std::span calls(op.calls.data(), static_cast<size_t>(op.count));
      calls[0].linear->kernel(calls[0].x.shape[0]).run(o.exec_, calls, op.workspace);
    }
    void operator()(const NormOp& op) const { cuda::norm(s, op.x, op.norm, op.out); }
    void operator()(const AddOp& op) const { cuda::add(s, op.residual, op.x); }
    void operator()(const AddNormOp& op) const { cuda::add_norm(s, op.residual, op.x, op.norm, op.out); }
    void operator()(const GatedOp& op) const { cuda::gated_activation(s, op.gate_up, op.activation, op.out); }
    void operator()(const QkvOp& op) const { cuda::qk_norm_rope_store(s, op.args, o.step_, op.qkv, op.kv, op.q); }
    void operator()(const AttentionOp& op) const {
      if (op.tiles) attention_tiles(s, op.args, o.step_, op.q, op.kv, op.out, kLeastTileRows);
      if (op.by_rows) attention_rows(s, op.args, o.step_, op.q, op.kv, op.out, op.plan, op.partials, o.counters_);
    }
    void operator()(const GatherOp& op) const { gather_rows(s, op.x, o.step_.out_rows, op.out); }
    void operator()(const RouteOp& op) const {
      if (op.before.router != nullptr) return router(s, op.before, op.args, o.step_, op.logits, op.routing);
      cuda::route(s, op.args, o.step_, op.logits, op.routing);
    }
    void operator()(const ExpertsOp& op) const { run_experts(s, op, o.exec_.sms); }
    void operator()(const OtherOp& op) const { op.run(s, o.step_); }
  };
  std::visit(Runner{*this, exec_.stream}, op);
}

// A norm or gate whose result the next product takes quantised: both by one kernel.
bool CudaOps::run_quantizing(size_t index) {
  const LinearOp* linear = index + 1 < ops_.size() ? std::get_if<LinearOp>(&ops_[index + 1]) : nullptr;
  if (linear == nullptr) return false;
  const std::span calls(linear->calls.data(), static_cast<size_t>(linear->count));
  if (!takes_quantized(calls)) return false;
  const LinearShape& shape = calls[0].linear->shape;
  const Tensor& x = calls[0].x;
  const Fp8Rows rows = fp8_rows(shape, x, linear->workspace);
  const auto* end = reinterpret_cast<const char*>(rows.scales + x.shape[0] * shape.format.scales(shape.k));
  // The workspace was not yet in use when the op was recorded: it may hold what the op reads.
  const auto fits = [&](const Tensor& out, std::initializer_list<Tensor> inputs) {
    const bool apart = std::none_of(inputs.begin(), inputs.end(), [&](const Tensor& t) {
      const auto* first = static_cast<const char*>(t.data);
      const auto* last = first + ((t.shape[0] - 1) * t.strides[0] + t.shape[1]) * dtype_bytes(t.dtype);
      return !quantizes_fp8(t) || (first < end && reinterpret_cast<const char*>(rows.codes) < last);
    });
    return apart && quantizes_fp8(out) && out.data == x.data && out.shape == x.shape && out.strides[0] == x.strides[0];
  };
  const Tensor* plain = read_later(ops_, index + 2, x.data) ? &x : nullptr;
  const Op& op = ops_[index];
  if (const NormOp* norm = std::get_if<NormOp>(&op); norm != nullptr && fits(norm->out, {norm->x})) {
    norm_quantize_fp8(exec_.stream, nullptr, norm->x, norm->norm, plain, rows);
  } else if (const AddNormOp* add = std::get_if<AddNormOp>(&op);
             add != nullptr && fits(add->out, {add->residual, add->x})) {
    norm_quantize_fp8(exec_.stream, &add->residual, add->x, add->norm, plain, rows);
  } else if (const GatedOp* gated = std::get_if<GatedOp>(&op); gated != nullptr && fits(gated->out, {gated->gate_up})) {
    gate_quantize_fp8(exec_.stream, gated->gate_up, gated->activation, plain, rows);
  } else {
    return false;
  }
  exec_.quantized = linear->workspace;
  return true;
}

void CudaOps::run_all() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    if (!run_quantizing(i)) run(ops_[i]);
  }
}

void CudaOps::prepare_walk(Known& known) {
  const std::optional<WalkPlan> plan = walk_ ? plan_walk(ops_, step_, exec_.sms) : std::nullopt;
  if (!plan) return;
  known.walk = plan->args;
  const auto upload = [&](const auto& values) {
    void* memory = nullptr;
    const size_t bytes = values.size() * sizeof(values[0]);
    check(cudaMalloc(&memory, bytes), "hold a walk");
    known.memory.push_back(memory);
    check(cudaMemcpyAsync(memory, values.data(), bytes, cudaMemcpyHostToDevice, exec_.stream), "upload a walk");
    return memory;
  };
  known.walk.steps = static_cast<const WalkStep*>(upload(plan->steps));
  known.walk.streams = static_cast<const WalkStream*>(upload(plan->streams));
  known.walk.partial = static_cast<float*>(upload(std::vector<float>(static_cast<size_t>(plan->partial_floats))));
  check(cudaStreamSynchronize(exec_.stream), "upload a walk");
  known.walk.barrier = barrier_;
  known.walk.trace = known.walk.count * exec_.sms <= kTraceSteps ? trace_ : nullptr;
  traced_ = known.walk.trace != nullptr ? known.walk.count : 0;
  known.walks = true;
}

CudaOps::Known& CudaOps::know(uint64_t key) {
  if (const auto at = known_.find(key); at != known_.end()) return at->second;
  if (known_.size() >= kMaxKnown) forget_all();
  Known& known = known_[key];
  prepare_walk(known);
  return known;
}

void CudaOps::capture(Known& known) {
  check(cudaStreamBeginCapture(exec_.stream, cudaStreamCaptureModeThreadLocal), "record a step");
  cudaGraph_t graph = nullptr;
  try {
    run_all();
  } catch (...) {
    cudaStreamEndCapture(exec_.stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(exec_.stream, &graph), "record a step");
  const cudaError_t status = cudaGraphInstantiate(&known.graph, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "prepare a recorded step");
}

void CudaOps::flush() {
  if (ops_.empty()) return;
  if (times_.on()) {
    times_.run(exec_.stream, ops_, [this](const Op& op) { run(op); });
  } else if (step_.rows > kGraphRows || has_other_op(ops_)) {
    run_all();
  } else {
    Known& known = know(hash_step(ops_, step_));
    if (known.walks) {
      run(ops_.front());  // the embedding
      walk(exec_.stream, known.walk, exec_.sms);
    } else if (++known.uses == 1) {
      run_all();  // modules load, algorithms are chosen, and one step alone needs no graph
    } else {
      if (known.graph == nullptr) capture(known);
      check(cudaGraphLaunch(known.graph, exec_.stream), "run a recorded step");
    }
  }
  ops_.clear();
}

void CudaOps::do_sample(const SampleArgs& args, const Tensor& logits) {
  if (dry() || args.rows.empty()) return;
  flush();
  for (size_t begin = 0; begin < args.rows.size(); begin += kMaxDraws) {
    const size_t count = std::min<size_t>(kMaxDraws, args.rows.size() - begin);
    sample_rows({args.rows.subspan(begin, count), args.out.subspan(begin, count)},
                logits.rows(static_cast<int64_t>(begin), static_cast<int64_t>(count)));
  }
}

void CudaOps::sample_rows(const SampleArgs& args, const Tensor& logits) {
  const size_t n = args.rows.size();
  argmax(exec_.stream, logits, keys_);
  for (size_t i = 0; i < n; ++i) host_draws_[i] = device_draw(args.rows[i].params);
  if (std::any_of(host_draws_, host_draws_ + n, [](const SampleDraw& draw) { return draw.temperature > 0; })) {
    check(cudaMemcpyAsync(draws_, host_draws_, n * sizeof(SampleDraw), cudaMemcpyHostToDevice, exec_.stream), "upload");
    cuda::sample(exec_.stream, logits, keys_, draws_, drawn_);
    check(cudaMemcpyAsync(host_drawn_, drawn_, n * sizeof(int32_t), cudaMemcpyDeviceToHost, exec_.stream),
          "fetch tokens");
    check(cudaStreamSynchronize(exec_.stream), "run a step");
    std::copy_n(host_drawn_, n, args.out.begin());
  } else {
    check(cudaMemcpyAsync(host_keys_, keys_, n * sizeof(uint64_t), cudaMemcpyDeviceToHost, exec_.stream),
          "fetch tokens");
    check(cudaStreamSynchronize(exec_.stream), "run a step");
    for (size_t i = 0; i < n; ++i) args.out[i] = static_cast<Token>(argmax_token(host_keys_[i]));
  }
  std::vector<float> row(static_cast<size_t>(logits.shape[1]));
  for (size_t i = 0; i < n; ++i) {
    if (drawn_on_device(args.rows[i])) continue;
    check(cudaMemcpyAsync(row.data(), logits.rows(static_cast<int64_t>(i), 1).data, row.size() * sizeof(float),
                          cudaMemcpyDeviceToHost, exec_.stream),
          "fetch logits");
    check(cudaStreamSynchronize(exec_.stream), "fetch logits");
    sample_on_host({args.rows.subspan(i, 1), args.out.subspan(i, 1)},
                   Tensor(row.data(), DType::kF32, {1, logits.shape[1]}));
  }
}

}  // namespace baize::cuda
