// FP8 weights of a Hugging Face folder: joins each F8_E4M3 tensor with the scales that lie beside it, so that what
// comes out is a tensor of format fp8 whose rows are made while it is loaded. Checkpoints of three writers are read:
//   quant_method "fp8"                 X.weight_scale_inv: a block of weight_block_size has one (DeepSeek, Qwen), or
//                                      the tensor; X.weight_scale: the tensor; X_scale_inv of stacked experts
//   quant_method "compressed-tensors"  X.weight_scale: the tensor, a row ([n, 1]) or a block has one
//   quant_method "fbgemm_fp8"          X.weight_scale: a row has one
// Modules that the configuration exempts are simply stored in another type. Source: `transformers`' quantizers and
// integrations of these names. Stateless; any thread.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "formats/tensor_source.h"

namespace baize {

/// Replaces `fp8` (the F8_E4M3 tensors of the folder `path`) by weights with their scales, which leave `tensors`, as do
/// scales of activations and of the cache: these are computed from the values themselves. `config` is config.json.
/// Throws Error(kUnsupported) for an unknown quant_method or blocks that are not 128 wide, Error(kCorrupt) for scales
/// that are missing or do not match.
std::vector<SourceTensor> join_fp8(const nlohmann::json& config, const std::string& path, std::vector<SourceTensor> fp8,
                                   std::vector<SourceTensor>& tensors);

/// The rows of a matrix of plain floats as fp8 with one scale a row: its largest magnitude becomes 448. NaN or infinity
/// among them throws Error(kCorrupt) when the rows are made.
SourceTensor quantized_to_fp8(const SourceTensor& source);

}  // namespace baize
