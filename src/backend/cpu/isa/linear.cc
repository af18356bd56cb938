// The table of matrix kernels of one variant.
#include "backend/cpu/isa/linear_float.h"
#include "backend/cpu/isa/linear_quant.h"

#if defined(__AMX_BF16__)
#include "backend/cpu/isa/linear_amx.h"
#endif

#define BAIZE_TEXT_OF(x) #x
#define BAIZE_TEXT(x) BAIZE_TEXT_OF(x)

namespace baize::cpu::BAIZE_ISA {

template <class T>
constexpr QuantLeaf leaf() {
  return {T::kAct, gemv<T>, gemm<T>, dequantize<T>};
}
template <class P>
constexpr PlainLeaf plain_leaf() {
  return {dot<P>, transpose<P>};
}

#if defined(__AMX_BF16__)
constexpr TileLeaf kTiles = {
    {dequantize_pairs<Q4_0>, dequantize_pairs<Q4_1>, dequantize_pairs<Q5_0>, dequantize_pairs<Q5_1>,
     dequantize_pairs<Q8_0>, dequantize_pairs<Q2_K>, dequantize_pairs<Q3_K>, dequantize_pairs<Q4_K>,
     dequantize_pairs<Q5_K>, dequantize_pairs<Q6_K>, dequantize_pairs<IQ4_NL>, dequantize_pairs<IQ4_XS>,
     dequantize_pairs<MXFP4>},
    {nullptr, transpose_pairs<PlainF16>, transpose_pairs<PlainBF16>},  // f32 weights are computed with in f32
    to_bf16,
    gemm_tiles,
};
#else
constexpr TileLeaf kTiles = {};
#endif

void softcap(float* values, int64_t n, float cap);  // linear_softcap.cc

extern const IsaLinear kLinear;
const IsaLinear kLinear = {
    BAIZE_TEXT(BAIZE_ISA),
    kTile,
    // In the order of QuantType.
    {leaf<Q4_0>(), leaf<Q4_1>(), leaf<Q5_0>(), leaf<Q5_1>(), leaf<Q8_0>(), leaf<Q2_K>(), leaf<Q3_K>(), leaf<Q4_K>(),
     leaf<Q5_K>(), leaf<Q6_K>(), leaf<IQ4_NL>(), leaf<IQ4_XS>(), leaf<MXFP4>()},
    {plain_leaf<PlainF32>(), plain_leaf<PlainF16>(), plain_leaf<PlainBF16>()},
    plain_leaf<PlainF8>(),
    quantize,
    gemm_f32,
    softcap,
    kTiles,
};

}  // namespace baize::cpu::BAIZE_ISA
