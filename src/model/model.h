// Model: a ModelSpec bound to a checkpoint's tensors on one backend, ready for `forward`. Owns its weights (views into
// mapped files, or buffers of the backend) through the store. Immutable after bind; shared by any number of steps.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "formats/checkpoint.h"
#include "formats/tensor_source.h"
#include "model/spec.h"
#include "ops/backend.h"
#include "ops/ops.h"

namespace baize {

/// Up to four linears that read the same input and fill adjacent columns.
struct LinearParts {
  std::array<Linear, 4> part;
  size_t count = 0;
  std::span<const Linear> span() const { return {part.data(), count}; }
  int64_t n() const;
};

/// A low-rank addition (Hu et al. 2021) to columns of a projection: from `column` on, += up(down(x)).
struct Adapter {
  Linear down, up;
  int64_t column = 0;
};

struct AttnBlock {
  LinearParts qkv;  // and the output gate, last
  std::vector<Adapter> adapters;
  QkvArgs qkv_args;
  AttnArgs args;
  Linear o;
  size_t state = 0;   // index into StepInput::kv
  int64_t v_dim = 0;  // of a value
  Norm q_all, k_all;  // over all heads at once, before qkv_args
  Norm out_norm;
  float clip = 0;      // > 0: of q, k and v
  int64_t gate_n = 0;  // columns of the gate; 0: none
  Activation gate = Activation::kSigmoid;
  float difference = 0;  // differential attention: what the second half's result is multiplied by
  Norm pair_norm;        // f32 [2 * v_dim]: of a pair of heads
  struct Mask {          // what each value adds to its key's scores
    Linear from_values;  // absent: none
    DecayArgs decay;
    int64_t keep = 0;
    size_t state = 0;
  } mask;
};

struct IndexerBlock {
  Linear q, k, weights;  // q from the compressed queries, the others from x
  QkvArgs qkv_args;
  SelectArgs args;
  size_t state = 0;
};

struct MlaBlock {
  LinearParts q;  // from x, or from the compressed queries
  Linear q_a;
  Norm q_norm, kv_norm;
  Linear kv_a;
  std::vector<Linear> k_up, v_up;  // one a head: nope_dim -> kv_rank, kv_rank -> v_dim
  Linear gate, o;
  LatentArgs latent;
  AttnArgs args;
  int64_t v_dim = 0;
  size_t state = 0;
  bool sparse = false;   // sees what an indexer chose
  IndexerBlock indexer;  // without `q`: one of an earlier layer's
};

struct CompressorBlock {
  LinearParts in;  // values, gates
  CompressArgs args;
};

struct CompressedAttnBlock {
  Linear q_a, q_b, kv;
  Norm q_norm;
  QkvArgs qkv_args;
  QkvArgs turn_back;  // of what is attended
  AttnArgs args;
  std::vector<Linear> o_a;  // one a group of heads
  Linear o_b;
  // Three states: keys of the window; of recent tokens, and for every `rate` tokens, what this and the indexer's
  // compressor keep, side by side.
  size_t state = 0;
  CompressorBlock compressor;  // rate 0: none
  CompressorBlock index_keys;  // the indexer's
  IndexerBlock indexer;
};

struct FfnBlock {
  LinearParts gate_up;
  std::vector<Adapter> adapters;
  Linear down;
  int64_t ff = 0;
  ActArgs activation;
  Norm inner_norm;
};

struct MoeBlock {
  Linear router;
  Norm router_norm, routed_norm;  // of the stream
  Norm routed_post, shared_post;
  float router_softcap = 0;
  RouteArgs route;
  std::vector<Linear> gate, up, down;  // one an expert; gate is empty where `up` holds both
  ActArgs activation;
  bool gated = true, weigh_input = false;
  FfnBlock shared;  // ff 0: none
  Linear shared_gate;
  Tensor out_bias;  // f32 [hidden]
};

struct AttnExpertsBlock {
  Linear router, kv;
  std::vector<Linear> q, o;  // one an expert
  RouteArgs route;
  QkvArgs qkv_args;
  AttnArgs args;    // of one expert
  Tensor out_bias;  // f32 [hidden]
  size_t state = 0;
};

/// A stretch of columns of a projection.
struct Columns {
  int64_t begin = 0, count = 0;
};

struct RecurrenceBlock {
  LinearParts in;
  Tensor in_scale;           // f32 [columns of in]
  Columns q, k, v, z, b, a;  // of what `in` gives; q, k and v adjoin in some order
  Linear z_up, a_up;         // from a narrow z and a
  ConvArgs conv;
  DecayArgs decay;
  RecurrenceArgs args;
  float beta_scale = 1;
  Activation gate = Activation::kSilu;
  bool norm_first = false;
  int64_t norm_groups = 1;
  Norm norm, ones;  // `ones`: the norm of a group where `norm` has a weight a channel of all
  Linear o;
  size_t state = 0;
};

struct MambaBlock {
  struct Head {
    Linear low, dt;
    ScanArgs scan;
  };
  Linear in, out;
  ConvArgs conv;
  std::vector<Head> heads;    // of equal stretches of the width
  std::array<Norm, 3> norms;  // of the step size, B and C
  int64_t rank = 0;
  size_t state = 0;
};

struct ShortConvBlock {
  Linear in, out;
  ConvArgs conv;
  size_t state = 0;
};

struct LruBlock {
  Linear x, y, out;
  std::vector<Linear> input_gate, decay_gate;  // one a block of channels
  ConvArgs conv;
  LruArgs lru;
  Activation activation = Activation::kGeluTanh;
  size_t state = 0;
};

struct RwkvBlock {
  Linear key, value, receptance, output;
  Tensor mix_k, mix_v, mix_r;  // f32 [hidden]
  WkvArgs wkv;
  bool time = false;
  size_t state = 0;
};

struct LayerInputBlock {
  Linear gate, up;
  Activation activation = Activation::kGeluTanh;
  int64_t column = 0;  // where this layer's input begins
};

/// How the residual streams are read, and added to; absent: there is one stream.
struct HyperBlock {
  Linear logits;  // from all streams side by side
  HyperArgs args;
  bool present() const { return logits.present(); }
};

struct MatrixBlock {
  Linear matrix;
  Linear down;  // before it; absent: none
};

using BoundBlock =
    std::variant<AttnBlock, FfnBlock, MlaBlock, MoeBlock, RecurrenceBlock, MambaBlock, ShortConvBlock, LruBlock,
                 RwkvBlock, LayerInputBlock, MatrixBlock, AttnExpertsBlock, CompressedAttnBlock>;

/// See Sublayer.
struct BoundSublayer {
  Norm pre, post;
  BoundBlock block;
  bool parallel = false, from_normed = false;
  float input_scale = 0;  // of what it read, added too
  float alpha = 1;
  Tensor alphas;  // f32 [hidden]: a factor a channel instead
  Norm after;
  HyperBlock hyper;
  Sublayer::Input input = Sublayer::Input::kStream;
};

/// See AltUpSpec. `predict` and `correct` give the weights of mix_streams.
struct AltUpBlock {
  Norm norm;
  Linear router, predict, correct;
  Tensor scale;  // f32 [hidden]; absent: none
};

struct BoundLayer {
  std::vector<BoundSublayer> sub;
  Tensor scale;  // f32 [1]; absent: none
  AltUpBlock altup;
};

/// What stands before the first layer and after the last, beside the table and the head matrix.
struct EmbedBlock {
  Linear proj;        // from the table's width
  Tensor positions;   // f32 [rows, hidden]
  Embed layer_table;  // [vocabulary, layers * width]: every layer's own input
  Linear layer_proj;  // the same of the embedding
  Norm layer_norm;    // of one layer's
  Norm norm;
  std::vector<Linear> streams;  // what the embedding is in AltUp's other streams
};
struct HeadBlock {
  Linear proj;   // to the head's width
  Linear dense;  // with an activation and a norm before the head
  Norm norm;
  std::vector<Linear> streams;  // of AltUp's streams but the first, before their mean
  HyperBlock hyper;             // what the final norm reads
};

/// One bound weight, for `inspect` and the memory plan.
struct WeightInfo {
  std::string name;    // canonical: "layers.3.attn.q"
  std::string source;  // as the checkpoint spells it
  LinearShape shape;
  const Pack* pack = nullptr;  // null: the stored layout, in place
  std::array<const LinearKernel*, kMRanges> kernels{};
  int64_t resident_bytes = 0;
};

/// What weights stored as plain floats become while they are loaded.
enum class Quantize : uint8_t { kNone, kFp8 };

struct FoundTensor;  // model/names.h

struct BindOptions {
  Compute compute = Compute::kAuto;
  Quantize quantize = Quantize::kNone;
  bool dry = false;   // choose and count everything, but read, pack and allocate no weights: `inspect`, memory plans
  int64_t bytes = 0;  // of weights as a dry run counted them (Model::resident_bytes): a device gives them as one piece
  std::vector<FoundTensor>* found = nullptr;  // gets every tensor with the names it was asked for by: for converters
};

/// Tables in a mapped file of which rows are looked up. Each look-up makes up to 64 KiB of the file resident (what
/// Linux maps around a page), however small the row; after enough of them the pages are let go. They stay in the
/// system's cache.
class MappedTables {
 public:
  static constexpr int64_t kResidentBytes = int64_t{16} << 20;  // of one table, for the memory plan

  void add(const SourceTensor& table) { tables_.push_back({table.file, table.bytes}); }
  /// After `rows` were looked up in each, and while nobody looks up any.
  void looked_up(int64_t rows);

 private:
  struct Table {
    std::shared_ptr<const MappedFile> file;
    std::span<const std::byte> bytes;
  };
  std::vector<Table> tables_;
  int64_t rows_ = 0;  // since pages were last let go
};

struct Model {
  ModelSpec spec;
  Precision precision;
  Embed embed;
  EmbedBlock embed_block;
  std::vector<BoundLayer> layers;
  Norm final_norm;
  HeadBlock head_block;
  Linear head;
  int64_t selected = 0;  // the most positions that an indexer chooses

  std::vector<WeightInfo> weights;
  int64_t parameters = 0;                        // values of all tensors that are read
  int64_t resident_bytes = 0;                    // of all weights, norms and biases too
  std::shared_ptr<const Checkpoint> checkpoint;  // keeps mapped weights alive
  std::vector<Buffer> buffers;                   // packed, folded and uploaded weights
  MappedTables tables;                           // a Runner takes a copy
};

/// Finds each tensor, runs the load passes (fold, split, tie, choose_kernels), packs or uploads what the backend wants.
/// Throws Error(kCorrupt) when tensors are missing or contradict the spec, Error(kUnsupported) for formats without a
/// kernel.
std::unique_ptr<const Model> bind(std::shared_ptr<const Checkpoint> checkpoint, const ModelSpec& spec, Backend& backend,
                                  const BindOptions& options);

struct StepOutput {
  Tensor logits;  // f32 [out_count, vocab]
};

/// The one forward pass: every model, every backend, every batch.
void forward(const Model& model, const StepInput& input, Ops& ops, const StepOutput& output);

}  // namespace baize
