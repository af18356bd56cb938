#include "backend/cuda/op_list.h"

#include <algorithm>
#include <initializer_list>

#include <bit>
#include <type_traits>

namespace baize::cuda {

namespace {

// A multiplicative hash over the fields, one after another; 64 bits make an accidental match of two steps of one
// program as good as impossible.
class Hasher {
 public:
  template <typename T>
    requires std::is_integral_v<T> || std::is_enum_v<T>
  void add(T v) {
    state_ = (std::rotl(state_, 5) ^ static_cast<uint64_t>(v)) * 0x9e3779b97f4a7c15u;
  }
  void add(float v) { add(std::bit_cast<uint32_t>(v)); }
  void add(const void* p) { add(std::bit_cast<uintptr_t>(p)); }
  void add(const Tensor& t) {
    add(t.data);
    add(t.dtype);
    for (int i = 0; i < t.shape.rank(); ++i) {
      add(t.shape[i]);
      add(t.strides[static_cast<size_t>(i)]);
    }
  }
  void add(const Norm& n) {
    add(n.weight);
    add(n.eps);
  }
  void add(const AttnShape& s) {
    add(s.heads);
    add(s.kv_heads);
    add(s.head_dim);
  }
  void add(const KvView& kv) {
    add(kv.k);
    add(kv.v);
    add(kv.group);
  }
  void add(const Rope& r) {
    add(r.inv_freq);
    add(r.scale);
    add(r.interleaved);
    add(r.dynamic_factor);
    add(r.theta);
    add(r.dynamic_length);
  }
  void add(const Routing& r) {
    add(r.ids);
    add(r.weights);
  }
  void add(const ActArgs& a) {
    add(a.kind);
    for (const float v : {a.limit, a.up_shift, a.sparsity, a.alpha_p, a.alpha_n, a.beta, a.eps}) add(v);
  }
  uint64_t value() const { return state_; }

 private:
  uint64_t state_ = 0xcbf29ce484222325u;
};

struct AddOpFields {
  Hasher& h;

  void operator()(const EmbedOp& op) const {
    h.add(op.table.w);
    h.add(op.table.alpha);
    h.add(op.out);
  }
  void operator()(const LinearOp& op) const {
    for (int i = 0; i < op.count; ++i) {
      const LinearCall& call = op.calls[static_cast<size_t>(i)];
      h.add(call.linear->w);
      h.add(call.linear->bias);
      h.add(call.linear->scales);
      h.add(call.linear->shape.n);
      h.add(call.linear->alpha);
      h.add(&call.linear->kernel(call.x.shape[0]));
      h.add(call.x);
      h.add(call.out);
      h.add(call.epilogue.softcap);
    }
    h.add(op.workspace);
  }
  void operator()(const NormOp& op) const {
    h.add(op.x);
    h.add(op.norm);
    h.add(op.out);
  }
  void operator()(const AddOp& op) const {
    h.add(op.residual);
    h.add(op.x);
  }
  void operator()(const AddNormOp& op) const {
    h.add(op.residual);
    h.add(op.x);
    h.add(op.norm);
    h.add(op.out);
  }
  void operator()(const GatedOp& op) const {
    h.add(op.gate_up);
    h.add(op.activation);
    h.add(op.out);
  }
  void operator()(const QkvOp& op) const {
    h.add(op.args.shape);
    h.add(op.args.q_norm);
    h.add(op.args.k_norm);
    h.add(op.args.rope);
    h.add(op.qkv);
    h.add(op.kv);
    h.add(op.q);
  }
  void operator()(const AttentionOp& op) const {
    h.add(op.args.shape);
    h.add(op.args.scale);
    h.add(op.args.softcap);
    h.add(op.args.window);
    h.add(op.q);
    h.add(op.kv);
    h.add(op.out);
    h.add(op.tiles);
    h.add(op.by_rows);
    h.add(op.plan.most_rows);
    h.add(op.plan.heads);
    h.add(op.plan.splits);
    h.add(op.partials);
  }
  void operator()(const GatherOp& op) const {
    h.add(op.x);
    h.add(op.out);
  }
  void operator()(const RouteOp& op) const {
    const RouteArgs& a = op.args;
    h.add(a.score);
    for (const int64_t v : {a.top_k, a.groups, a.top_groups}) h.add(v);
    for (const bool v : {a.group_by_two, a.renormalise, a.softmax_last}) h.add(v);
    for (const float v : {a.norm_min, a.scale, a.sparse_mixer}) h.add(v);
    h.add(a.bias);
    h.add(a.by_token);
    h.add(op.logits);
    h.add(op.routing);
    if (op.before.router == nullptr) return;
    h.add(op.before.router->w);
    h.add(op.before.norm);
    h.add(op.before.groups.rows_of_item);
    for (const Tensor* t : {&op.before.residual, &op.before.delta, &op.before.normed, &op.before.groups.order,
                            &op.before.groups.items, &op.before.groups.count}) {
      h.add(*t);
    }
  }
  void operator()(const ExpertsOp& op) const {
    for (const ExpertPart* part : {&op.parts.gate, &op.parts.up, &op.parts.down}) {
      h.add(static_cast<const void*>(part->experts));
      h.add(static_cast<const void*>(part->maps));
      h.add(part->shape.n);
      h.add(part->shape.k);
    }
    h.add(op.activation);
    h.add(op.weigh_input);
    h.add(op.routing);
    h.add(op.groups.rows_of_item);
    h.add(op.groups.most_items);
    h.add(op.grouped);
    h.add(op.tiles);
    for (const Tensor* t :
         {&op.x, &op.out, &op.groups.order, &op.groups.items, &op.groups.count, &op.up_rows, &op.active, &op.results}) {
      h.add(*t);
    }
  }
  void operator()(const OtherOp& op) const { h.add(static_cast<const void*>(op.name)); }
};

}  // namespace

namespace {

enum class Use { kNone, kReads, kWrites };

// What an op does with the memory at `data`.
struct UseOf {
  const void* data;

  Use operator()(const LinearOp& op) const { return of({op.calls[0].x.data}, op.calls[0].out.data); }
  Use operator()(const NormOp& op) const { return of({op.x.data}, op.out.data); }
  Use operator()(const AddOp& op) const { return of({op.residual.data, op.x.data}, nullptr); }
  Use operator()(const AddNormOp& op) const { return of({op.residual.data, op.x.data}, op.out.data); }
  Use operator()(const GatedOp& op) const { return of({op.gate_up.data}, op.out.data); }
  Use operator()(const QkvOp& op) const { return of({op.qkv.data}, op.q.data); }
  Use operator()(const AttentionOp& op) const { return of({op.q.data}, op.out.data); }
  Use operator()(const GatherOp& op) const { return of({op.x.data}, op.out.data); }
  template <typename T>
  Use operator()(const T&) const {
    return Use::kReads;
  }

  Use of(std::initializer_list<const void*> inputs, const void* out) const {
    if (std::ranges::find(inputs, data) != inputs.end()) return Use::kReads;
    return out == data ? Use::kWrites : Use::kNone;
  }
};

}  // namespace

bool read_later(const std::vector<Op>& ops, size_t first, const void* data) {
  for (size_t i = first; i < ops.size(); ++i) {
    const Use found = std::visit(UseOf{data}, ops[i]);
    if (found != Use::kNone) return found == Use::kReads;
  }
  return true;
}

uint64_t hash_step(const std::vector<Op>& ops, const StepInput& input) {
  Hasher h;
  h.add(input.rows);
  h.add(input.seqs);
  h.add(input.out_count);
  for (const Tensor* t :
       {&input.ids, &input.positions, &input.row_seq, &input.q_start, &input.kv_len, &input.out_rows}) {
    h.add(*t);
  }
  for (const Tensor& t : input.block_tables) h.add(t);
  for (const Op& op : ops) {
    h.add(op.index());
    std::visit(AddOpFields{h}, op);
  }
  return h.value();
}

}  // namespace baize::cuda
