// Mixtures of experts in CudaOps: what the kernels need of a layer's matrices, and how their ops are recorded and run.
#include <algorithm>

#include "backend/cuda/check.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/tensor_map.h"

namespace baize::cuda {

namespace {

bool is_bf16(std::span<const Linear> linears) {
  return std::all_of(linears.begin(), linears.end(), [](const Linear& l) {
    return l.shape.format.scheme == Scheme::kPlain && l.shape.format.elem == DType::kBF16 && l.shape.k % 8 == 0 &&
           !l.bias.present();
  });
}

bool whole_chunks(const Tensor& t) {
  return t.dtype == DType::kBF16 && t.shape[1] % 8 == 0 && t.strides[0] % 8 == 0 &&
         reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
}

// Whether expert_tiles.cu takes them; depends on nothing that a dry step does not know.
bool fits_tiles(const Experts& experts, const Tensor& x, const Tensor& out) {
  const int64_t ff = experts.down[0].shape.k, gate_n = experts.gate.empty() ? 0 : experts.gate[0].shape.n;
  return is_bf16(experts.gate) && is_bf16(experts.up) && is_bf16(experts.down) && experts.activation.plain() &&
         !experts.weigh_input && gate_n + experts.up[0].shape.n == 2 * ff && whole_chunks(x) && whole_chunks(out);
}

// What the kernels need of one matrix an expert; the device's part is filled in by the caller.
ExpertPart part_of(std::span<const Linear> linears, std::vector<ExpertWeights>& host) {
  if (linears.empty()) return {};
  const Linear& first = linears[0];
  ExpertPart part{first.shape, nullptr, first.kernel(1).pack != nullptr, true};
  for (const Linear& linear : linears) {
    if (linear.shape.format != first.shape.format || linear.kernel(1).pack != first.kernel(1).pack) {
      unsupported("the CUDA backend has no layers whose experts are stored in different formats: use --backend cpu");
    }
    const auto* w = static_cast<const uint8_t*>(linear.w.data);
    part.wide = part.wide && reinterpret_cast<uintptr_t>(w) % 16 == 0;
    host.push_back({w, linear.bias.present() ? static_cast<const float*>(linear.bias.data) : nullptr, linear.alpha,
                    static_cast<const float*>(linear.scales.data)});
  }
  return part;
}

void add_maps(std::span<const Linear> linears, std::vector<CUtensorMap>& host) {
  for (const Linear& linear : linears) {
    const int64_t sizes[] = {linear.shape.k, linear.shape.n}, strides[] = {linear.shape.k}, box[] = {64, 64};
    host.push_back(tensor_map(linear.w.data, sizes, strides, box));
  }
}

}  // namespace

template <typename T>
const T* CudaOps::keep_on_device(const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "hold the addresses of experts");
  expert_memory_.push_back(memory);
  check(cudaMemcpyAsync(memory, values.data(), bytes, cudaMemcpyHostToDevice, exec_.stream), "upload addresses");
  check(cudaStreamSynchronize(exec_.stream), "upload addresses");
  return static_cast<const T*>(memory);
}

// A CudaOps serves one model, whose matrices stay where they are.
const ExpertParts& CudaOps::expert_parts(const Experts& experts, bool tiles) {
  const ExpertKey key{experts.up.data(), experts.up[0].w.data, experts.down[0].w.data};
  if (const auto at = expert_parts_.find(key); at != expert_parts_.end()) return at->second;
  std::vector<ExpertWeights> host;
  ExpertParts parts;
  parts.gate = part_of(experts.gate, host);
  const size_t up = host.size();
  parts.up = part_of(experts.up, host);
  const size_t down = host.size();
  parts.down = part_of(experts.down, host);
  const ExpertWeights* device = keep_on_device(host);
  parts.gate.experts = device;
  parts.up.experts = device + up;
  parts.down.experts = device + down;
  if (tiles) {
    std::vector<CUtensorMap> maps;
    for (const std::span<const Linear> part : {experts.gate, experts.up, experts.down}) add_maps(part, maps);
    const CUtensorMap* on_device = keep_on_device(maps);
    if (!experts.gate.empty()) parts.gate.maps = on_device;
    parts.up.maps = on_device + up;
    parts.down.maps = on_device + down;
  }
  return expert_parts_[key] = parts;
}

void CudaOps::do_route(const RouteArgs& args, const Tensor& logits, const Routing& routing) {
  RouteOp op{args, logits, routing, {}};
  if (!dry() && join_router(op)) ops_.resize(ops_.size() - 2);
  record(op);
}

// Whether what was recorded last is the norm and the product that the routing's logits come from.
bool CudaOps::join_router(RouteOp& op) {
  if (ops_.size() < 2) return false;
  const auto* norm = std::get_if<AddNormOp>(&ops_[ops_.size() - 2]);
  const auto* product = std::get_if<LinearOp>(&ops_.back());
  if (norm == nullptr || product == nullptr || product->count != 1) return false;
  const LinearCall& call = product->calls[0];
  if (call.x.data != norm->out.data || call.x.shape != norm->out.shape || call.out.data != op.logits.data ||
      call.epilogue.softcap > 0) {
    return false;
  }
  const RouterCall before{norm->residual, norm->x, norm->norm, norm->out, call.linear, {}, counters_};
  if (!router_supports(before, op.args, op.logits)) return false;
  op.before = before;
  return true;
}

void CudaOps::do_experts(const Experts& experts, const Tensor& x, const Routing& routing, const Tensor& out) {
  if (!routing.weights.present() || experts.down.empty()) {
    unsupported("the CUDA backend has no attention of experts yet: use --backend cpu");
  }
  const int64_t pairs = x.shape[0] * routing.ids.shape[1];
  const int64_t gate_n = experts.gate.empty() ? 0 : experts.gate[0].shape.n, up_n = experts.up[0].shape.n;
  const Scope scope(*this);
  ExpertsOp op{};
  op.tiles = fits_tiles(experts, x, out);
  const bool matrices = whole_chunks(x) && experts.down[0].shape.k % 8 == 0;
  op.groups = plan_pair_groups(pairs, std::ssize(experts.up),
                               op.tiles   ? PairProducts::kTiles
                               : matrices ? PairProducts::kMatrices
                                          : PairProducts::kAny);
  op.groups.order = temp(DType::kI32, {std::max<int64_t>(1, pairs)});
  op.groups.items = temp(DType::kI32, {std::max<int64_t>(1, op.groups.item_slots), 4});
  op.groups.count = temp(DType::kI32, {1});
  if (const int64_t n = group_workspace(pairs, std::ssize(experts.up)); n > 0) {
    op.groups.workspace = temp(DType::kI32, {n});
  }
  if (!op.tiles) op.up_rows = temp(x.dtype, {pairs, gate_n + up_n});
  op.active = temp(x.dtype, {pairs, experts.down[0].shape.k});
  op.results = temp(x.dtype, {pairs, out.shape[1]});
  if (dry() || pairs == 0) return;
  op.parts = expert_parts(experts, op.tiles);
  op.activation = experts.activation;
  op.weigh_input = experts.weigh_input;
  op.x = x;
  op.routing = routing;
  op.out = out;
  if (auto* route = ops_.empty() ? nullptr : std::get_if<RouteOp>(&ops_.back());
      route != nullptr && route->before.router != nullptr && route->routing.ids.data == routing.ids.data) {
    route->before.groups = op.groups;
    op.grouped = true;
  }
  record(op);
}

// The sum of the experts, its addition to the residual and the norm are one kernel.
bool CudaOps::join_experts(const Tensor& x, const AddedNorm& then) {
  auto* op = ops_.empty() ? nullptr : std::get_if<ExpertsOp>(&ops_.back());
  if (op == nullptr || op->then.out.present() || op->out.data != x.data || op->out.shape != x.shape) return false;
  const auto apart = [](const Tensor& a, const Tensor& b) {
    const auto *from = static_cast<const char*>(a.data), *other = static_cast<const char*>(b.data);
    return from + a.bytes() <= other || other + b.bytes() <= from;
  };
  // Its workspace may have been given away since.
  for (const Tensor* read : {&op->results, &op->routing.ids, &op->routing.weights}) {
    if (!apart(*read, then.out) || !apart(*read, then.residual)) return false;
  }
  if (!combine_supports(op->results, op->out, then)) return false;
  op->then = then;
  return true;
}

void run_experts(cudaStream_t s, const ExpertsOp& op, int sms) {
  if (!op.grouped) group_pairs(s, op.groups, op.routing.ids);
  if (op.tiles) {
    expert_tiles_up(s, op.parts, op.groups, op.x, op.activation.kind, op.active, sms);
    expert_tiles_down(s, op.parts.down, op.groups, op.active, op.results, sms);
  } else {
    const Tensor factors = op.weigh_input ? op.routing.weights : Tensor{};
    const int64_t gate_n = op.parts.gate.shape.n;  // 0: none
    if (gate_n > 0) multiply_experts(s, op.parts.gate, op.groups, op.x, factors, op.up_rows.columns(0, gate_n));
    multiply_experts(s, op.parts.up, op.groups, op.x, factors, op.up_rows.columns(gate_n, op.parts.up.shape.n));
    activate(s, op.activation, op.up_rows, op.active);
    multiply_experts(s, op.parts.down, op.groups, op.active, {}, op.results);
  }
  const Routing routing{op.routing.ids, op.weigh_input ? Tensor{} : op.routing.weights};
  combine_experts(s, op.groups, op.results, routing, op.out, op.then);
}

}  // namespace baize::cuda
