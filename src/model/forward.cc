#include <algorithm>

#include "base/mutate.h"
#include "model/blocks/blocks.h"

namespace baize {

namespace {

// One stream of several: what hyper-connections read of them.
void collapse(const HyperBlock& hyper, Ops& ops, const Tensor& x, const Tensor& read, const Tensor& weights) {
  const Ops::Scope scope(ops);
  const Tensor logits = ops.temp(read.dtype, {x.shape[0], hyper.logits.shape.n});
  ops.linear({&hyper.logits, 1}, x, logits);
  ops.hyper_read(hyper.args, x, logits, read, weights);
}

/// The residual stream of a step, or several side by side. What a sublayer adds to it waits until the next reader,
/// whose norm takes it along.
class Stream {
 public:
  Stream(const Model& model, const StepInput& input, Ops& ops)
      : ops_(ops),
        x_(ops.temp(ops.precision().residual, {input.rows, model.spec.hyper.streams * model.spec.dims.hidden})),
        normed_(ops.temp(ops.precision().act, {input.rows, model.spec.dims.hidden})),
        delta_(ops.temp(ops.precision().act, normed_.shape)) {
    const AltUpSpec& altup = model.spec.altup;
    const int64_t hidden = model.spec.dims.hidden, streams = model.spec.hyper.streams;
    if (streams > 1) weights_ = ops.temp(DType::kF32, {input.rows, streams * (1 + streams)});
    if (altup.streams > 0) streams_ = ops.temp(x_.dtype, {input.rows, altup.streams * hidden});
    if (altup.streams > 0) predicted_ = ops.temp(x_.dtype, streams_.shape);
    active_ = altup.active;
    if (!reads_embedding(model)) return;
    embedding_ = ops.temp(ops.precision().act, x_.shape);
    joined_ = ops.temp(ops.precision().act, {input.rows, 2 * hidden});
  }

  const Tensor& x() const { return x_; }
  const Tensor& delta() const { return delta_; }
  /// What the head reads.
  const Tensor& last() const { return streams_.present() ? streams_ : x_; }

  /// x is the embedding.
  void begin(const Model& model) {
    if (streams_.present()) widen(model.embed_block.streams, ops_, x_, streams_);
    if (embedding_.present()) ops_.scale(x_, {}, mutated("residual.with_embedding") ? 0 : 1, embedding_);
  }

  void begin_layer(const BoundLayer& layer) {
    layer_ = &layer;
    if (!streams_.present()) return;
    predict(layer.altup, active_, ops_, streams_, predicted_);
    ops_.scale(stream(predicted_, active_), {}, 1, x_);
  }

  /// What the sublayer reads.
  const Tensor& enter(const BoundSublayer& sub) {
    if (sub.hyper.present()) {
      collapse(sub.hyper, ops_, x_, normed_, weights_);
      if (sub.pre.present()) ops_.norm(normed_, sub.pre, normed_);
      return normed_;
    }
    if (sub.input == Sublayer::Input::kWithEmbedding) {
      flush();
      const int64_t n = x_.shape[1];
      ops_.scale(x_, {}, 1, joined_.columns(0, n));
      ops_.scale(embedding_, {}, 1, joined_.columns(n, n));
      ops_.norm(joined_, sub.pre, joined_);
      return joined_;
    }
    if (sub.input == Sublayer::Input::kCorrected) {
      flush();
      std::swap(streams_, predicted_);
      correct(layer_->altup, active_, ops_, x_, streams_);
      ops_.scale(stream(streams_, active_), layer_->altup.scale, 1, normed_);
      return normed_;
    }
    if (sub.input != Sublayer::Input::kStream) {
      pending_ = false;
      if (sub.input == Sublayer::Input::kStreamAndGiven) ops_.add(delta_, x_);
      sub.pre.present() ? ops_.norm(delta_, sub.pre, normed_) : ops_.scale(delta_, {}, 1, normed_);
      return normed_;
    }
    if (sub.parallel) {
      if (sub.pre.present()) ops_.norm(x_, sub.pre, normed_);
      flush();
      return normed_;
    }
    if (pending_ && sub.pre.present()) {
      ops_.add_norm(x_, delta_, sub.pre, normed_);
      pending_ = false;
    } else {
      flush();
      sub.pre.present() ? ops_.norm(x_, sub.pre, normed_) : ops_.scale(x_, {}, 1, normed_);
    }
    if (sub.from_normed) ops_.scale(normed_, {}, sub.alpha, x_);
    if (!sub.from_normed && (sub.alpha != 1 || sub.alphas.present())) ops_.scale(x_, sub.alphas, sub.alpha, x_);
    return normed_;
  }

  void leave(const BoundSublayer& sub) {
    if (sub.hyper.present()) return ops_.hyper_write(sub.hyper.args, x_, delta_, weights_);
    pending_ = true;
    if (sub.post.present() && !mutated("norm.post")) ops_.norm(delta_, sub.post, delta_);
    if (sub.input_scale != 0) {
      ops_.scale(normed_, {}, sub.input_scale, normed_);
      ops_.add(delta_, normed_);
    }
    if (sub.input == Sublayer::Input::kCorrected) {
      const int64_t streams = streams_.shape[1] / x_.shape[1];
      for (int64_t i = 1; i < streams; ++i) ops_.add(stream(streams_, i), delta_);
      pending_ = false;
    }
    if (!sub.after.present()) return;
    flush();
    ops_.norm(x_, sub.after, x_);
  }

  void flush() {
    if (pending_) ops_.add(x_, delta_);
    pending_ = false;
  }

 private:
  Tensor stream(const Tensor& all, int64_t index) const { return all.columns(index * x_.shape[1], x_.shape[1]); }
  static bool reads_embedding(const Model& model) {
    for (const BoundLayer& layer : model.layers) {
      for (const BoundSublayer& sub : layer.sub) {
        if (sub.input == Sublayer::Input::kWithEmbedding) return true;
      }
    }
    return false;
  }

  Ops& ops_;
  Tensor x_, normed_, delta_;
  Tensor weights_;              // of hyper-connected streams: how they take what a sublayer gives
  Tensor embedding_, joined_;   // where a sublayer reads x beside the embedding
  Tensor streams_, predicted_;  // AltUp's, and what they will be after the layer
  int64_t active_ = 0;
  const BoundLayer* layer_ = nullptr;
  bool pending_ = false;
};

void embed(const Model& model, const StepInput& input, Ops& ops, const Tensor& x) {
  const Ops::Scope scope(ops);
  if (const int64_t hidden = model.spec.dims.hidden; x.shape[1] != hidden) {  // into every stream
    const Tensor one = ops.temp(x.dtype, {input.rows, hidden});
    embed(model, input, ops, one);
    for (int64_t at = 0; at < x.shape[1]; at += hidden) ops.scale(one, {}, 1, x.columns(at, hidden));
    return;
  }
  const EmbedBlock& block = model.embed_block;
  if (block.proj.present()) {
    const Tensor narrow = ops.temp(ops.precision().act, {input.rows, model.embed.shape.k});
    ops.embed(model.embed, narrow);
    ops.linear({&block.proj, 1}, narrow, x);
  } else {
    ops.embed(model.embed, x);
  }
  if (block.positions.present()) ops.add_positions(block.positions, model.spec.embed.position_offset, x);
  if (block.norm.present() && !mutated("embed.norm")) ops.norm(x, block.norm, x);
}

// Every layer's own input, all layers side by side.
Tensor layer_inputs(const Model& model, const StepInput& input, Ops& ops, const Tensor& x) {
  const EmbedBlock& block = model.embed_block;
  if (!block.layer_proj.present()) return {};
  const int64_t all = block.layer_proj.shape.n, width = model.spec.embed.layer_inputs;
  const Tensor sum = ops.temp(ops.precision().act, {input.rows, all}), projected = ops.temp(sum.dtype, sum.shape);
  ops.embed(block.layer_table, sum);
  const Ops::Scope scope(ops);
  const Tensor read = ops.temp(sum.dtype, x.shape);
  ops.scale(x, {}, 1, read);
  ops.linear({&block.layer_proj, 1}, read, projected);
  const Tensor each = projected.reshaped({input.rows * all / width, width});
  ops.norm(each, block.layer_norm, each);
  ops.add(sum, projected);
  return sum;
}

// What the layers' indexers choose, one after the other.
Tensor selection(const Model& model, const StepInput& input, Ops& ops) {
  if (model.selected == 0) return {};
  return ops.temp(DType::kI32, {input.rows, std::min(model.selected, input.max_kv_len)});
}

void head(const Model& model, const StepInput& input, Ops& ops, const Tensor& x, const Tensor& logits) {
  const HeadBlock& block = model.head_block;
  Tensor last = ops.temp(x.dtype, {input.out_count, x.shape[1]});
  Tensor normed = ops.temp(ops.precision().act, {input.out_count, model.spec.dims.hidden});
  ops.gather_out_rows(x, last);
  if (!block.streams.empty()) {
    const Tensor one = ops.temp(x.dtype, normed.shape);
    narrow(block.streams, ops, last, one);
    last = one;
  }
  if (block.hyper.present()) {
    collapse(block.hyper, ops, last, normed, {});
    last = normed;
  }
  model.final_norm.present() ? ops.norm(last, model.final_norm, normed) : ops.scale(last, {}, 1, normed);
  if (block.dense.present()) {
    const Tensor dense = ops.temp(normed.dtype, normed.shape);
    ops.linear({&block.dense, 1}, normed, dense);
    ops.activate({.kind = model.spec.head.activation}, dense, dense);
    ops.norm(dense, block.norm, normed);
  }
  if (block.proj.present()) {
    const Tensor narrow = ops.temp(normed.dtype, {input.out_count, block.proj.shape.n});
    ops.linear({&block.proj, 1}, normed, narrow);
    normed = narrow;
  }
  ops.linear({&model.head, 1}, normed, logits,
             Epilogue{.softcap = mutated("softcap.logits") ? 0 : model.spec.head.softcap});
}

}  // namespace

void forward(const Model& model, const StepInput& input, Ops& ops, const StepOutput& output) {
  ops.begin_step(input);
  Stream stream(model, input, ops);
  embed(model, input, ops, stream.x());
  stream.begin(model);
  const Step step{input, ops, stream.x(), layer_inputs(model, input, ops, stream.x()), selection(model, input, ops)};
  for (const BoundLayer& layer : model.layers) {
    stream.begin_layer(layer);
    for (const BoundSublayer& sub : layer.sub) {
      const Ops::Scope scope(ops);
      const Tensor& read = stream.enter(sub);
      std::visit([&](const auto& block) { run(block, step, read, stream.delta()); }, sub.block);
      stream.leave(sub);
    }
    if (layer.scale.present() && !mutated("residual.layer_scale")) {
      stream.flush();
      ops.scale(stream.x(), layer.scale, 1, stream.x());
    }
  }
  if (input.out_count > 0) {
    stream.flush();
    head(model, input, ops, stream.last(), output.logits);
  }
  ops.end_step();
}

}  // namespace baize
