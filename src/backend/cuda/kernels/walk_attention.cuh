// Attention in the walk: the keys of every key head are cut in parts, a block takes one part and all query heads of its
// key head; every block then merges the partial results for itself, as the input of the next linear.
#pragma once

#include "backend/cuda/kernels/rope.cuh"
#include "backend/cuda/kernels/walk_shared.cuh"

namespace baize::cuda {

// How the keys that position sees are cut.
struct Cut {
  int first, keys, part_keys, parts;
};
__device__ __forceinline__ Cut cut_keys(int position, int window, int splits) {
  Cut c;
  c.first = window > 0 ? max(0, position - window + 1) : 0;
  c.keys = position + 1 - c.first;
  c.part_keys = max(kWalkMinKeys, (c.keys + splits - 1) / splits);
  c.parts = (c.keys + c.part_keys - 1) / c.part_keys;
  return c;
}

// Elements [i, i + 8) of the attention's result, merged from its parts.
__device__ __forceinline__ void merge8(const WalkArgs& a, int parts, int i, float (&v)[8]) {
  const int head = i / a.head_dim, d = i % a.head_dim;
  const float* acc = a.partial + static_cast<int64_t>(head) * a.splits * a.head_dim + d;
  const auto* ml = reinterpret_cast<const float2*>(a.partial + static_cast<int64_t>(a.heads) * a.splits * a.head_dim) +
                   head * a.splits;
  constexpr int kBatch = 4;  // parts whose loads are in flight together
  float top = -FLT_MAX, sum = 0;
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] = 0;
  for (int first = 0; first < parts; first += kBatch) {
    float2 part[kBatch];
    float4 x0[kBatch], x1[kBatch];
#pragma unroll
    for (int p = 0; p < kBatch; ++p) {
      const int at = min(first + p, parts - 1);
      part[p] = __ldcg(ml + at);
      x0[p] = __ldcg(reinterpret_cast<const float4*>(acc + at * a.head_dim));
      x1[p] = __ldcg(reinterpret_cast<const float4*>(acc + at * a.head_dim) + 1);
    }
#pragma unroll
    for (int p = 0; p < kBatch; ++p) {
      if (first + p >= parts) break;
      const float x[8] = {x0[p].x, x0[p].y, x0[p].z, x0[p].w, x1[p].x, x1[p].y, x1[p].z, x1[p].w};
      const float next = fmaxf(top, part[p].x);
      const float keep = exp2f((top - next) * kLog2E), add = exp2f((part[p].x - next) * kLog2E);
      top = next;
      sum = sum * keep + part[p].y * add;
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = v[j] * keep + x[j] * add;
    }
  }
#pragma unroll
  for (int j = 0; j < 8; ++j) v[j] /= sum;
}

// ---- attention: a block takes one part of the keys of one key head, all of its query heads

// A lane's share of the keys and values that its warp looks at together.
template <int kDim>
struct KeyTile {
  static constexpr int kLanes = kDim / 8, kKeys = 32 / kLanes, kUnroll = 2, kStep = kWarps * kKeys;
  uint4 k[kUnroll], v[kUnroll];

  __device__ __forceinline__ void load(const Paged& kv, int kv_head, int t0, int end) {
    const int within = threadIdx.x % 32 % kLanes * 8;
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int t = min(t0 + u * kStep, end - 1);
      const int64_t page = kv.table[t / kv.block], slot = t % kv.block;
      k[u] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(kv.k) + page * kv.k_page + slot * kv.k_token +
                                             kv_head * kv.k_head + within);
      v[u] = *reinterpret_cast<const uint4*>(static_cast<const uint16_t*>(kv.v) + page * kv.v_page + slot * kv.v_token +
                                             kv_head * kv.v_head + within);
    }
  }
};

// `tile` holds the first keys already. `newest`: key and value of this row, which the cache may not show yet.
template <int kDim>
__device__ void attend_part(const WalkArgs& a, const WalkStep& step, int kv_head, int part, const Cut& cut, int head0,
                            int heads, KeyTile<kDim>& tile, const float* q_shared, const float* newest, float* merge) {
  using Tile = KeyTile<kDim>;
  constexpr int E = 8, kLanes = Tile::kLanes, kKeys = Tile::kKeys, U = Tile::kUnroll, kStep = Tile::kStep;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int within = lane % kLanes, key_of_warp = lane / kLanes;
  const int begin = cut.first + part * cut.part_keys;
  const int end = min(begin + cut.part_keys, cut.first + cut.keys);
  const int position = cut.first + cut.keys - 1;
  float acc[kWalkGroup][E], m[kWalkGroup], l[kWalkGroup];
#pragma unroll
  for (int g = 0; g < kWalkGroup; ++g) {
    m[g] = -FLT_MAX;
    l[g] = 0;
#pragma unroll
    for (int e = 0; e < E; ++e) acc[g][e] = 0;
  }
  for (int t0 = begin + warp * kKeys + key_of_warp; t0 - key_of_warp < end; t0 += kStep * U) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const int t = t0 + u * kStep;
      float k[E], v[E];
      if (t == position) {
        load8(newest, DType::kF32, within * E, k);
        load8(newest, DType::kF32, kDim + within * E, v);
      } else {
        unpack_bf16(tile.k[u], k);
        unpack_bf16(tile.v[u], v);
      }
      const bool seen = t < end;
#pragma unroll
      for (int g = 0; g < kWalkGroup; ++g) {
        if (g >= heads) break;
        float q[E], s = 0;
        load8(q_shared, DType::kF32, g * kDim + within * E, q);
#pragma unroll
        for (int e = 0; e < E; ++e) s += q[e] * k[e];
#pragma unroll
        for (int o = kLanes / 2; o > 0; o >>= 1) s += __shfl_xor_sync(~0u, s, o);
        s *= step.scale;
        if (step.score_softcap > 0) s = step.score_softcap * tanhf(s / step.score_softcap);
        const float top = seen ? fmaxf(m[g], s) : m[g];
        const float keep = exp2f((m[g] - top) * kLog2E), p = seen ? exp2f((s - top) * kLog2E) : 0.0f;
        m[g] = top;
        l[g] = l[g] * keep + p;
#pragma unroll
        for (int e = 0; e < E; ++e) acc[g][e] = acc[g][e] * keep + p * v[e];
      }
    }
    if (t0 - key_of_warp + kStep * U < end) tile.load(step.kv, kv_head, t0 + kStep * U, end);
  }
  float* merge_acc = merge;                                                          // [warps][heads][kDim]
  float2* merge_ml = reinterpret_cast<float2*>(merge + kWarps * kWalkGroup * kDim);  // [warps][heads]
#pragma unroll
  for (int g = 0; g < kWalkGroup; ++g) {
    if (g >= heads) break;
#pragma unroll
    for (int o = kLanes; o < 32; o <<= 1) {
      const float m1 = __shfl_xor_sync(~0u, m[g], o), l1 = __shfl_xor_sync(~0u, l[g], o);
      const float top = fmaxf(m[g], m1);
      const float keep = exp2f((m[g] - top) * kLog2E), add = exp2f((m1 - top) * kLog2E);
      m[g] = top;
      l[g] = l[g] * keep + l1 * add;
#pragma unroll
      for (int e = 0; e < E; ++e) acc[g][e] = acc[g][e] * keep + __shfl_xor_sync(~0u, acc[g][e], o) * add;
    }
    if (key_of_warp == 0) {
      store8(merge_acc, DType::kF32, (warp * kWalkGroup + g) * kDim + within * E, acc[g]);
      if (within == 0) merge_ml[warp * kWalkGroup + g] = make_float2(m[g], l[g]);
    }
  }
  sync_compute();
  for (int i = threadIdx.x; i < heads * kDim; i += kThreads) {
    const int g = i / kDim, d = i % kDim;
    float top = -FLT_MAX, sum = 0, total = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, merge_ml[w * kWalkGroup + g].x);
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 ml = merge_ml[w * kWalkGroup + g];
      const float keep = exp2f((ml.x - top) * kLog2E);
      sum += merge_acc[(w * kWalkGroup + g) * kDim + d] * keep;
      total += ml.y * keep;
    }
    const int64_t at = static_cast<int64_t>(head0 + g) * a.splits + part;
    a.partial[at * kDim + d] = sum;
    if (d == 0) {
      reinterpret_cast<float2*>(a.partial + static_cast<int64_t>(a.heads) * a.splits * kDim)[at] =
          make_float2(top, total);
    }
  }
  sync_compute();
}

template <int kDim>
__device__ void run_attention(const WalkArgs& a, const WalkStep& step, uint8_t* memory, int position) {
  const Cut cut = cut_keys(position, step.window, a.splits);
  const int kv_head = blockIdx.x / a.splits, part = blockIdx.x % a.splits;
  if (kv_head >= step.kv_heads || part >= cut.parts) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Paged& kv = step.kv;
  const int begin = cut.first + part * cut.part_keys, end = min(begin + cut.part_keys, position + 1);
  const int t0 = begin + warp * KeyTile<kDim>::kKeys + lane / KeyTile<kDim>::kLanes;
  KeyTile<kDim> tile;
  tile.load(kv, kv_head, t0, end);                              // while the queries are made ready
  float* heads = reinterpret_cast<float*>(memory + a.at_work);  // [group + 2, kDim]: queries, new key, new value
  const bool newest = part == cut.parts - 1;                    // sees this row's key and value, and stores them
  if (warp < step.group + (newest ? 2 : 0)) {
    const int kind = warp < step.group ? 0 : warp - step.group + 1;
    const int column = kind == 0   ? kv_head * step.group + warp
                       : kind == 1 ? a.heads + kv_head
                                   : a.heads + step.kv_heads + kv_head;
    float* x = heads + warp * kDim;
    float squares = 0;
    const auto* from = reinterpret_cast<const unsigned short*>(step.qkv) + column * kDim + lane;
    unsigned short raw[kDim / 32];
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) raw[i] = __ldcg(from + i * 32);
#pragma unroll
    for (int i = 0; i < kDim / 32; ++i) {
      x[lane + i * 32] = bf16_lo(raw[i]);
      squares += bf16_lo(raw[i]) * bf16_lo(raw[i]);
    }
    __syncwarp();
    if (kind < 2) {
      norm_and_rotate(x, squares, lane, kDim, kind == 0 ? step.q_norm : step.k_norm, step.rope,
                      [&](int i) { return turn(step.rope, i, position, position + 1); });
    }
    __syncwarp();
    for (int i = lane; i < kDim; i += 32) x[i] = __bfloat162float(__float2bfloat16_rn(x[i]));  // as kept elsewhere
    if (kind > 0) {
      const int64_t page = kv.table[position / kv.block], slot = position % kv.block;
      auto* to = kind == 1
                     ? static_cast<__nv_bfloat16*>(kv.k) + page * kv.k_page + slot * kv.k_token + kv_head * kv.k_head
                     : static_cast<__nv_bfloat16*>(kv.v) + page * kv.v_page + slot * kv.v_token + kv_head * kv.v_head;
      for (int i = lane; i < kDim; i += 32) to[i] = __float2bfloat16_rn(x[i]);
    }
  }
  sync_compute();
  const float* new_kv = heads + step.group * kDim;
  float* merge = heads + (step.group + 2) * kDim;
  for (int g = 0; g < step.group; g += kWalkGroup) {
    if (g > 0) tile.load(kv, kv_head, t0, end);
    attend_part<kDim>(a, step, kv_head, part, cut, kv_head * step.group + g, min(kWalkGroup, step.group - g), tile,
                      heads + g * kDim, new_kv, merge);
  }
}

}  // namespace baize::cuda
