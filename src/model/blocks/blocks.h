// The blocks of forward: each reads x [rows, hidden] and fills out [rows, hidden], in terms of ops. Pure functions of
// the step; called by forward only.
#pragma once

#include "model/model.h"

namespace baize {

struct Step {
  const StepInput& input;
  Ops& ops;
  Tensor stream;          // [rows, hidden] of the residual's type, before what the block adds; valid where it is one
  Tensor layer_inputs{};  // [rows, layers * width]; absent: none
  Tensor selected{};      // i32 [rows, count]: what the last indexer chose; absent: there is none
};

/// AltUp's streams of an embedding, and back to one: [rows, hidden] and [rows, streams * hidden].
void widen(std::span<const Linear> matrices, Ops& ops, const Tensor& x, const Tensor& streams);
void narrow(std::span<const Linear> matrices, Ops& ops, const Tensor& streams, const Tensor& x);
/// Before a layer, what the streams will be; after it, these corrected by what the layer made of the active one, x.
void predict(const AltUpBlock& block, int64_t active, Ops& ops, const Tensor& streams, const Tensor& predicted);
void correct(const AltUpBlock& block, int64_t active, Ops& ops, const Tensor& x, const Tensor& streams);

/// What an indexer reads: x, the compressed queries, and its keys.
struct IndexerInput {
  const Tensor& x;
  const Tensor& compressed;
  const KvView& keys;
};
/// Leaves in step.selected what each row may see; an indexer with keys of its own stores them first.
void choose(const IndexerBlock& block, const Step& step, const IndexerInput& in);

/// Adds what adapters make of x to `out`, which a projection of x has filled.
void adapt(std::span<const Adapter> adapters, const Step& step, const Tensor& x, const Tensor& out);

void run(const AttnBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const MlaBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const CompressedAttnBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const FfnBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const MoeBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const RecurrenceBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const MambaBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const ShortConvBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const LruBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const LayerInputBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const AttnExpertsBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const MatrixBlock& block, const Step& step, const Tensor& x, const Tensor& out);
void run(const RwkvBlock& block, const Step& step, const Tensor& x, const Tensor& out);

}  // namespace baize
