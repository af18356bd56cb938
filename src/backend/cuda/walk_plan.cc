#include "backend/cuda/walk_plan.h"

#include <algorithm>
#include <cstring>

namespace baize::cuda {

namespace {

// Reads the list of ops from the front; every take_* checks that the next op continues what came before.
class Planner {
 public:
  Planner(const std::vector<Op>& ops, const StepInput& step, int sms) : ops_(ops), step_(step), sms_(sms) {}

  std::optional<WalkPlan> plan();

 private:
  template <typename T>
  const T* next() {
    if (at_ >= ops_.size()) return nullptr;
    const T* op = std::get_if<T>(&ops_[at_]);
    if (op != nullptr) ++at_;
    return op;
  }
  bool take_normed_linear();
  bool take_attention();
  bool take_ffn();
  bool add_parts(const LinearOp& op, const void* x, WalkStep& step);
  bool add_linear(const LinearOp& op, const void* x, WalkStep step);
  bool lay_out_memory();

  const std::vector<Op>& ops_;
  const StepInput& step_;
  int sms_;
  size_t at_ = 0;
  WalkPlan plan_;
  const void* residual_ = nullptr;
  const void* delta_ = nullptr;  // what the next norm adds to the residual
  const void* qkv_ = nullptr;
  bool done_ = false;
  int attention_bytes_ = 0, work_bytes_ = 0, slot_bytes_ = 0;
};

// kQ2_K, which no walk multiplies, for what it cannot read.
GgufType type_of(const QuantFormat& format) {
  constexpr GgufType kNone = GgufType::kQ2_K;
  if (format.scheme == Scheme::kGguf) return format.block;
  if (format.scheme == Scheme::kFp8) return format.group == 0 ? kWalkFp8 : kNone;
  return format.elem == DType::kBF16 ? GgufType::kBF16 : kNone;
}

template <typename T>
const T* pointer(const Tensor& t) {
  return static_cast<const T*>(t.data);
}

// Appends `next` to `last` where weights and results of both lie side by side.
bool merge(WalkPart& last, const WalkPart& next) {
  const int64_t row_bytes = static_cast<int64_t>(last.units) * walk_unit_bytes(last.type);
  if (last.type != next.type || last.alpha != next.alpha || last.bias != nullptr || next.bias != nullptr ||
      last.w + last.n * row_bytes != next.w || (last.scales != nullptr && last.scales + last.n != next.scales) ||
      last.out_dtype != next.out_dtype ||
      static_cast<char*>(last.out) + static_cast<int64_t>(last.n) * dtype_bytes(last.out_dtype) != next.out) {
    return false;
  }
  last.n += next.n;
  return true;
}

bool Planner::add_parts(const LinearOp& op, const void* x, WalkStep& step) {
  if (op.count > WalkStep::kMaxParts) return false;
  step.kind = WalkKind::kLinear;
  step.k = static_cast<int>(op.calls[0].linear->shape.k);
  int slots = 0;
  for (int i = 0; i < op.count; ++i) {
    const LinearCall& call = op.calls[static_cast<size_t>(i)];
    const Linear& l = *call.linear;
    const GgufType type = type_of(l.shape.format);
    const bool plain = type == GgufType::kBF16, fp8 = type == kWalkFp8;
    const Pack* pack = nullptr;
    if (call.x.data != x || call.x.dtype != DType::kBF16 || l.shape.k % kUnitWeights != 0 ||
        !walk_supports(type, 128)) {
      return false;
    }
    pack = l.kernel(1).pack;
    const bool planar = type != GgufType::kBF16 && type != GgufType::kQ4_K && type != GgufType::kQ5_K;
    if ((pack != nullptr) != planar || reinterpret_cast<uintptr_t>(l.w.data) % 16 != 0) return false;
    (plain ? step.plain : fp8 ? step.halved : step.quantized) = true;
    if (l.shape.n > (1 << 24)) return false;
    const WalkPart part = {pointer<uint8_t>(l.w),
                           pointer<float>(l.bias),
                           pointer<float>(l.scales),
                           call.out.data,
                           call.out.dtype,
                           type,
                           static_cast<int>(l.shape.n),
                           static_cast<int>(l.shape.k / kUnitWeights),
                           l.alpha};
    slots += (part.n / sms_ + 1) * part.units;
    if (step.parts == 0 || !merge(step.part[step.parts - 1], part)) step.part[step.parts++] = part;
  }
  step.softcap = op.calls[0].epilogue.softcap;
  work_bytes_ = std::max(work_bytes_, walk_input_bytes(step));
  slot_bytes_ = std::max(slot_bytes_, slots * 4);
  return true;
}

bool Planner::add_linear(const LinearOp& op, const void* x, WalkStep step) {
  if (!add_parts(op, x, step)) return false;
  plan_.steps.push_back(step);
  return true;
}

// A norm of the residual, after what is pending was added to it, and the linears that read it.
bool Planner::take_normed_linear() {
  WalkStep step{};
  const void* x = nullptr;
  const auto set_norm = [&](const Norm& norm) {
    step.norm_weight = pointer<float>(norm.weight);
    step.norm_eps = norm.eps;
    return norm.present() && norm.weight.shape[0] == plan_.args.hidden;
  };
  if (const NormOp* op = plan_.steps.empty() ? next<NormOp>() : nullptr) {
    if (op->x.data != residual_ || !set_norm(op->norm)) return false;
    step.input = WalkInput::kStart;
    step.x = residual_;
    x = op->out.data;
  } else if (const AddNormOp* both = next<AddNormOp>()) {
    if (both->residual.data != residual_ || both->x.data != delta_ || !set_norm(both->norm)) return false;
    step.input = WalkInput::kAdd;
    step.x = delta_;
    x = both->out.data;
  } else if (const AddOp* add = next<AddOp>()) {  // the end: the only row is the row whose logits are wanted
    const GatherOp* gather = next<GatherOp>();
    const NormOp* norm = gather != nullptr ? next<NormOp>() : nullptr;
    if (norm == nullptr || add->residual.data != residual_ || add->x.data != delta_ || gather->x.data != residual_ ||
        norm->x.data != gather->out.data || !set_norm(norm->norm)) {
      return false;
    }
    step.input = WalkInput::kAdd;
    step.x = delta_;
    x = norm->out.data;
    done_ = true;
  } else {
    return false;
  }
  // Parts of several kinds of weights come as several ops.
  const LinearOp* op = next<LinearOp>();
  if (op == nullptr || !add_parts(*op, x, step)) return false;
  while (const LinearOp* more = next<LinearOp>()) {
    if (more->calls[0].x.data != x) {
      --at_;
      break;
    }
    if (step.parts + more->count > WalkStep::kMaxParts || !add_parts(*more, x, step)) return false;
  }
  if (step.k != plan_.args.hidden) return false;
  plan_.steps.push_back(step);
  return true;
}

bool Planner::take_attention() {
  const QkvOp* qkv = next<QkvOp>();
  const AttentionOp* attention = qkv != nullptr ? next<AttentionOp>() : nullptr;
  const LinearOp* o = attention != nullptr ? next<LinearOp>() : nullptr;
  if (o == nullptr) return false;
  const AttnShape& s = qkv->args.shape;
  const WalkStep& before = plan_.steps.back();
  const bool first = plan_.args.head_dim == 0;
  const bool same = first || (plan_.args.head_dim == s.head_dim && plan_.args.heads == s.heads &&
                              plan_.args.splits == sms_ / s.kv_heads);
  int64_t width = 0;
  for (int i = 0; i < before.parts; ++i) width += before.part[i].n;
  if (!same || !walk_supports(GgufType::kBF16, static_cast<int>(s.head_dim)) || s.heads / s.kv_heads > 8 ||
      s.kv_heads > sms_ || qkv->qkv.data != before.part[0].out || qkv->qkv.dtype != DType::kBF16 ||
      width != (s.heads + 2 * s.kv_heads) * s.head_dim || qkv->kv.k.dtype != DType::kBF16 ||
      attention->q.data != qkv->q.data || attention->kv.k.data != qkv->kv.k.data ||
      (qkv->args.rope.present() && qkv->args.rope.rot_dim() > s.head_dim)) {
    return false;
  }
  const Paged kv = paged(qkv->kv, step_);
  for (const int64_t stride : {kv.k_page, kv.k_token, kv.k_head, kv.v_page, kv.v_token, kv.v_head}) {
    if (stride % 8 != 0) return false;
  }
  plan_.args.head_dim = static_cast<int>(s.head_dim);
  plan_.args.heads = static_cast<int>(s.heads);
  plan_.args.splits = static_cast<int>(sms_ / s.kv_heads);
  WalkStep step{};
  step.kind = WalkKind::kAttention;
  step.qkv = pointer<uint16_t>(qkv->qkv);
  step.rope = rope_args(qkv->args.rope);
  step.q_norm = norm_args(qkv->args.q_norm);
  step.k_norm = norm_args(qkv->args.k_norm);
  step.kv = kv;
  step.scale = attention->args.scale;
  step.score_softcap = attention->args.softcap;
  step.window = static_cast<int>(attention->args.window);
  step.kv_heads = static_cast<int>(s.kv_heads);
  step.group = static_cast<int>(s.heads / s.kv_heads);
  plan_.steps.push_back(step);
  attention_bytes_ = std::max(
      attention_bytes_, static_cast<int>(4 * s.head_dim * (step.group + 2 + 16 * kWalkGroup) + 8 * 16 * kWalkGroup));
  WalkStep after{};
  after.input = WalkInput::kAttended;
  delta_ = o->calls[0].out.data;
  return o->count == 1 && o->calls[0].linear->shape.k == s.heads * s.head_dim &&
         add_linear(*o, attention->out.data, after);
}

bool Planner::take_ffn() {
  const GatedOp* gated = next<GatedOp>();
  const LinearOp* down = gated != nullptr ? next<LinearOp>() : nullptr;
  if (down == nullptr) return false;
  WalkStep& up = plan_.steps.back();
  const int64_t ff = gated->out.shape[1];
  if (gated->gate_up.data != up.part[0].out || gated->out.dtype != DType::kBF16) return false;
  if (up.parts == 1 && up.part[0].n == 2 * ff) {  // gate and up in one matrix
    WalkPart &gate = up.part[0], &second = up.part[1];
    gate.n = static_cast<int>(ff);
    second = gate;
    second.w = gate.w + ff * gate.units * walk_unit_bytes(gate.type);
    if (gate.bias != nullptr) second.bias = gate.bias + ff;
    if (gate.scales != nullptr) second.scales = gate.scales + ff;
    up.parts = 2;
  }
  if (up.parts != 2 || up.part[0].n != ff || up.part[1].n != ff || up.softcap > 0) return false;
  up.gated = true;
  up.activation = gated->activation;
  up.part[0].out = gated->out.data;
  up.part[0].out_dtype = DType::kBF16;
  WalkStep step{};
  step.input = WalkInput::kCopy;
  step.x = gated->out.data;
  delta_ = down->calls[0].out.data;
  return down->count == 1 && add_linear(*down, gated->out.data, step);
}

bool Planner::lay_out_memory() {
  const auto round = [](int bytes) { return (bytes + 127) / 128 * 128; };
  WalkArgs& a = plan_.args;
  const int work = round(std::max(work_bytes_, attention_bytes_ - round(slot_bytes_)));
  const int fixed = round(a.hidden * 4) + work + round(slot_bytes_);
  a.stages = std::min((walk_shared_bytes() - fixed) / kWalkStageBytes, 32);
  a.depth = kWalkDepth;
  a.at_residual = a.stages * kWalkStageBytes;
  a.at_work = a.at_residual + round(a.hidden * 4);
  a.work_bytes = work;
  a.at_slots = a.at_work + work;
  for (const WalkStep& step : plan_.steps) {
    for (int i = 0; i < step.parts; ++i) {
      const WalkPart& part = step.part[i];
      const int unit = walk_unit_bytes(part.type);
      plan_.streams.push_back({part.w, part.n, part.units * unit, walk_stage_units(part.type) * unit});
    }
  }
  a.stream_count = static_cast<int>(plan_.streams.size());
  plan_.partial_floats = static_cast<int64_t>(a.heads) * a.splits * (a.head_dim + 2);
  a.count = static_cast<int>(plan_.steps.size());
  a.position = pointer<int>(step_.positions);
  return a.stages >= 4;
}

std::optional<WalkPlan> Planner::plan() {
  const EmbedOp* embed = next<EmbedOp>();
  if (embed == nullptr || step_.rows != 1 || step_.seqs != 1 || step_.out_count != 1 ||
      embed->out.dtype != DType::kF32) {
    return std::nullopt;
  }
  residual_ = embed->out.data;
  plan_.args = {};
  plan_.args.hidden = static_cast<int>(embed->out.shape[1]);
  while (!done_) {
    if (!take_normed_linear()) return std::nullopt;
    if (done_) break;
    if (!take_attention() && !take_ffn()) return std::nullopt;
  }
  if (at_ != ops_.size() || plan_.args.heads == 0 || !lay_out_memory()) return std::nullopt;
  return std::move(plan_);
}

}  // namespace

std::optional<WalkPlan> plan_walk(const std::vector<Op>& ops, const StepInput& step, int sms) {
  return Planner(ops, step, sms).plan();
}

}  // namespace baize::cuda
