// Binder: turns a spec and a checkpoint's tensors into a Model, sublayer by sublayer; the inside of bind(). The blocks'
// parts are in bind_*.cc. Used once, by one thread.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "model/derived.h"
#include "model/model.h"
#include "model/names.h"
#include "model/weight_store.h"

namespace baize {

class Binder {
 public:
  Binder(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
         const BindOptions& options);
  std::unique_ptr<const Model> bind();

 private:
  /// Where a matrix lies and what is done to it.
  struct Place {
    int64_t layer = -1;
    float alpha = 1;
    bool transposed = false;          // stored [k, n]
    std::span<const int64_t> rows{};  // of the stored matrix, in this order; empty: all
    int64_t stored_n = 0;             // rows stored; 0: as many as wanted
    int64_t expert = -1;
    std::string bias{};  // canonical name of the bias; empty: the matrix's
  };
  struct Fused {
    std::span<const std::string> own;  // names of the parts
    std::string name;                  // of the one matrix of all
    std::span<const int64_t> widths;
    std::span<const float> alphas{};  // of the parts
    std::span<const int64_t> rows{};  // order of the fused matrix's rows
  };

  void bind_embed_and_head();
  /// `sites`: what there is of reading, adding to and mixing the streams.
  HyperBlock hyper(const std::string& name, int64_t layer, int64_t sites);
  BoundSublayer bind_sublayer(const Sublayer& sub, int64_t own);
  AttnBlock bind_block(const AttnSpec& spec, int64_t layer, float scale);
  FfnBlock bind_block(const DenseFfn& spec, int64_t layer, float scale);
  IndexerBlock indexer(const IndexerSpec& spec, int64_t q_rank, int64_t layer);
  CompressorBlock compressor(const CompressedAttnSpec& spec, const std::string& stem, int64_t dim, int64_t layer);
  CompressedAttnBlock bind_block(const CompressedAttnSpec& spec, int64_t layer, float scale);
  MlaBlock bind_block(const MlaSpec& spec, int64_t layer, float scale);
  MoeBlock bind_block(const MoeFfn& spec, int64_t layer, float scale);
  RecurrenceBlock bind_block(const RecurrenceSpec& spec, int64_t layer, float scale);
  MambaBlock bind_block(const MambaSpec& spec, int64_t layer, float scale);
  ShortConvBlock bind_block(const ShortConvSpec& spec, int64_t layer, float scale);
  LruBlock bind_block(const LruSpec& spec, int64_t layer, float scale);
  LayerInputBlock bind_block(const LayerInputSpec& spec, int64_t layer, float scale);
  AttnExpertsBlock bind_block(const AttnExpertsSpec& spec, int64_t layer, float scale);
  MatrixBlock bind_block(const MatrixSpec& spec, int64_t layer, float scale);
  void bind_layer_inputs();
  void bind_streams();
  AltUpBlock altup(int64_t layer);
  RwkvBlock bind_block(const RwkvSpec& spec, int64_t layer, float scale);

  void decay_tables(const RecurrenceSpec& spec, int64_t layer, RecurrenceArgs& args);
  void recurrence_inputs(const RecurrenceSpec& spec, int64_t layer, RecurrenceBlock& block);
  void separate_inputs(const RecurrenceSpec& spec, int64_t layer, bool low, RecurrenceBlock& block);
  ConvArgs conv(const std::string& name, int64_t channels, int64_t width, Activation activation, int64_t layer);
  ConvArgs conv_of_three(int64_t channels, int64_t width, int64_t layer);
  std::vector<float> need_vector(const std::string& name, int64_t dim, int64_t layer);

  FfnBlock ffn(const DenseFfn& spec, const std::string& stem, int64_t layer, float scale);
  void attention_matrices(const AttnSpec& spec, int64_t layer, AttnBlock& block);
  void attention_norms(const AttnSpec& spec, int64_t layer, AttnBlock& block);
  ActArgs activation(const DenseFfn& spec, const std::string& stem, int64_t layer);
  Tensor experts_by_token(const MoeFfn& spec, int64_t layer);
  /// What each expert's result is multiplied by: its stored factor, if any, times `scale`.
  std::vector<float> expert_scales(const MoeFfn& spec, int64_t layer, float scale);
  void experts_apart(const MoeFfn& spec, int64_t layer, std::span<const float> scales, MoeBlock& block);
  void experts_together(const MoeFfn& spec, int64_t layer, std::span<const float> scales, MoeBlock& block);

  /// Linears of the given widths under their own names, or one under the fused name; they read k values.
  LinearParts parts(const Fused& fused, int64_t k, int64_t layer);
  /// Adds the low-rank addition number `place.expert` of a matrix that reads k values and fills `columns`, if any.
  void adapt(std::vector<Adapter>& adapters, const std::string& name, Columns columns, int64_t k, const Place& place);
  Linear linear(const std::string& name, int64_t n, int64_t k, const Place& place);
  /// A linear of a tensor found already. `bias` may be null.
  Linear linear_of(const SourceTensor& stored, const std::string& name, const Place& place,
                   const std::vector<float>& bias);
  /// The tensor as BindOptions::quantize wants it.
  const SourceTensor& quantized(const SourceTensor& tensor, const std::string& name);
  std::vector<float> bias_of(const std::string& name, int64_t n, const Place& place);
  Norm norm(const NormSpec& spec, const std::string& name, int64_t dim, int64_t layer);
  Norm head_norm(const NormSpec& spec, const std::string& name, int64_t heads, int64_t dim, int64_t layer);
  Rope rope(const RopeSpec& spec);
  /// The values of a tensor of `dim` elements in any shape; empty when the checkpoint has none.
  std::vector<float> vector(const std::string& name, int64_t dim, int64_t layer);
  Tensor small(const std::vector<float>& values);  // absent for none
  std::vector<float> floats(const SourceTensor& tensor) const;
  const SourceTensor& checked(const SourceTensor& tensor, const Shape& shape) const;
  const SourceTensor& checked(SourceTensor&& tensor, const Shape& shape) const = delete;  // it returns what it got
  int64_t hidden() const { return model_->spec.dims.hidden; }

  TensorNames names_;
  Backend& backend_;
  BindOptions options_;
  WeightStore store_;
  Derived derived_;
  std::unique_ptr<Model> model_ = std::make_unique<Model>();
  std::vector<std::pair<RopeSpec, Rope>> ropes_;  // equal specs share one table, so backends can cache by its address
  size_t states_ = 0;
  std::vector<size_t> state_of_layer_;
};

/// Rows of a fused matrix in the order q|k|v, given how they are stored; empty where that is their order. `widths`: of
/// q, k and v.
std::vector<int64_t> qkv_rows(const QkvLayout& layout, std::array<int64_t, 3> widths);

/// "layers.3.attn.q"
std::string layer_name(const std::string& name, int64_t layer);

}  // namespace baize
