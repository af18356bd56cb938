#include "backend/cuda/linear_kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "backend/cuda/blocks.h"
#include "backend/cuda/exec.h"
#include "backend/cuda/kernels/kernels.h"

namespace baize::cuda {

namespace {

cudaStream_t stream_of(Exec& exec) { return static_cast<CudaExec&>(exec).stream; }
bool automatic(const LinearQuery& q) { return q.compute == Compute::kAuto; }
bool gguf(const LinearQuery& q) { return q.shape.format.scheme == Scheme::kGguf; }
bool plain(const LinearQuery& q) { return q.shape.format.scheme == Scheme::kPlain; }
bool few(const LinearQuery& q) { return q.range != MRange::kMany; }
int64_t no_workspace(const LinearShape&, int64_t) { return 0; }

// ---- the planar layout

int64_t planar_bytes(const LinearShape& shape) {
  return shape.n * block_row_bytes(block_map(shape.format.block, true), shape.k);
}

void planar_repack(const LinearShape& shape, const std::byte* stored, std::byte* packed, int64_t row_begin,
                   int64_t row_end) {
  const BlockMap map = block_map(shape.format.block, true);
  const PlanarUnit unit = planar_unit(map);
  const int64_t blocks = shape.k / map.elems, row_bytes = block_row_bytes(map, shape.k);
  for (int64_t row = row_begin; row < row_end; ++row) {
    const std::byte* from = stored + row * blocks * map.bytes;
    std::byte* to = packed + row * row_bytes;
    std::memset(to, 0, static_cast<size_t>(row_bytes));  // the gaps between planes too: equal weights, equal bytes
    for (int64_t i = 0; i < blocks; ++i, from += map.bytes) {
      std::byte* base = to + i / unit.blocks * unit.bytes;
      const auto field = [&](int plane, int offset, int size) {
        if (size > 0) std::memcpy(base + plane + i % unit.blocks * size, from + offset, static_cast<size_t>(size));
      };
      field(0, map.at_a, map.a);
      field(unit.b, map.at_b, map.b);
      field(unit.c, map.at_c, map.c);
      field(unit.d, map.at_d, map.d);
    }
  }
}

constexpr Pack kPlanar = {"planar", planar_bytes, planar_repack, 1};

// ---- exact

void run_exact(Exec& exec, std::span<const LinearCall> calls, void*) {
  for (const LinearCall& call : calls) linear_exact(stream_of(exec), call);
}
constexpr LinearKernel kExact = {"cuda.exact", nullptr,  1, [](const LinearQuery& q) { return !automatic(q); },
                                 no_workspace, run_exact};

// ---- few rows

constexpr LinearKernel kPlainFew = {
    "cuda.plain.few",
    nullptr,
    20,
    [](const LinearQuery& q) { return automatic(q) && few(q) && plain(q); },
    no_workspace,
    [](Exec& exec, std::span<const LinearCall> calls, void*) { gemv_plain(stream_of(exec), calls); }};

constexpr LinearKernel kAnyFew = {"cuda.any.few",
                                  nullptr,
                                  5,
                                  [](const LinearQuery& q) { return automatic(q) && few(q); },
                                  no_workspace,
                                  [](Exec& exec, std::span<const LinearCall> calls, void*) {
                                    for (const LinearCall& call : calls) gemv_any(stream_of(exec), call, false);
                                  }};

// ---- many rows

bool same_weights_follow(const LinearCall& a, const LinearCall& b) {
  const Linear &first = *a.linear, &second = *b.linear;
  return first.w.as<char>() + first.shape.n * first.shape.format.row_bytes(first.shape.k) == second.w.data &&
         !first.bias.present() && !second.bias.present() && first.alpha == second.alpha &&
         static_cast<char*>(a.out.data) + first.shape.n * dtype_bytes(a.out.dtype) == b.out.data;
}

void finish(CudaExec& exec, const LinearCall& call) {
  if (call.linear->bias.present() || call.epilogue.softcap > 0) {
    finish_linear(exec.stream, call.out, call.out, call.linear->bias, call.epilogue);
  }
}

void run_bf16(Exec& base, std::span<const LinearCall> calls, void*) {
  auto& exec = static_cast<CudaExec&>(base);
  for (size_t i = 0; i < calls.size();) {
    const LinearCall& call = calls[i];
    int64_t n = call.linear->shape.n;
    size_t end = i + 1;  // parts that lie side by side are one product
    for (; end < calls.size() && same_weights_follow(calls[end - 1], calls[end]); ++end)
      n += calls[end].linear->shape.n;
    exec.gemm->run(exec.stream, call.linear->w.data, n, call.linear->shape.k, call.x, call.out, call.linear->alpha);
    for (; i < end; ++i) finish(exec, calls[i]);
  }
}
// From two rows on the library is ahead of own kernels; it needs rows of 16 bytes.
constexpr LinearKernel kBf16Rows = {"cuda.bf16.rows",
                                    nullptr,
                                    21,
                                    [](const LinearQuery& q) {
                                      return automatic(q) && q.range != MRange::kOne && plain(q) &&
                                             q.shape.format.elem == DType::kBF16 && q.shape.k % 8 == 0;
                                    },
                                    no_workspace,
                                    run_bf16};

constexpr int64_t kChunkBytes = int64_t{64} << 20;  // of weights dequantised at a time
int64_t chunk_rows(const LinearShape& shape) {
  const int64_t rows = std::max<int64_t>(kChunkBytes / (2 * shape.k) / 256 * 256, 256);
  return std::min(rows, shape.n);
}
int64_t many_workspace(const LinearShape& shape, int64_t) { return chunk_rows(shape) * shape.k * 2; }

template <bool kIsPlanar>
void run_dequantized(Exec& base, std::span<const LinearCall> calls, void* workspace) {
  auto& exec = static_cast<CudaExec&>(base);
  for (const LinearCall& call : calls) {
    const LinearShape& shape = call.linear->shape;
    const int64_t step = chunk_rows(shape);
    for (int64_t begin = 0; begin < shape.n; begin += step) {
      const int64_t count = std::min(step, shape.n - begin);
      dequantize(exec.stream, *call.linear, kIsPlanar, begin, count, workspace);
      exec.gemm->run(exec.stream, workspace, count, shape.k, call.x, call.out.columns(begin, count),
                     call.linear->alpha);
    }
    finish(exec, call);
  }
}
// ---- few rows of blocks

// Above so many rows, reading the weights once more costs less than multiplying them a row at a time.
constexpr int64_t kMostBlockRows = 8;

int64_t few_workspace(const LinearShape& shape, int64_t m) {
  return m <= kMostBlockRows ? quantized_bytes(m, shape.k) : many_workspace(shape, m);
}

template <bool kIsPlanar>
bool blocks_few_supports(const LinearQuery& q) {
  return automatic(q) && few(q) && gguf(q) && gemv_blocks_supports(q.shape.format.block, kIsPlanar);
}
// Rows of a head's columns may begin anywhere.
bool reads_wide(const Tensor& x) {
  return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.strides[0] * dtype_bytes(x.dtype) % 16 == 0;
}
template <bool kIsPlanar>
void blocks_few_run(Exec& exec, std::span<const LinearCall> calls, void* workspace) {
  if (calls[0].x.shape[0] > kMostBlockRows) return run_dequantized<kIsPlanar>(exec, calls, workspace);
  if (!reads_wide(calls[0].x)) {
    for (const LinearCall& call : calls) gemv_any(stream_of(exec), call, kIsPlanar);
    return;
  }
  quantize_rows(stream_of(exec), calls[0].x, workspace);
  for (const LinearCall& call : calls) gemv_blocks(stream_of(exec), call, kIsPlanar, workspace);
}
constexpr LinearKernel kBlocksFew = {"cuda.blocks.few",          nullptr,       20,
                                     blocks_few_supports<false>, few_workspace, blocks_few_run<false>};
constexpr LinearKernel kPlanarFew = {"cuda.planar.few",         &kPlanar,      20,
                                     blocks_few_supports<true>, few_workspace, blocks_few_run<true>};

constexpr LinearKernel kDequantizedMany = {
    "cuda.dequantized.many",
    nullptr,
    10,
    [](const LinearQuery& q) { return automatic(q) && !few(q) && q.shape.k % 8 == 0; },
    many_workspace,
    run_dequantized<false>};
constexpr LinearKernel kPlanarMany = {"cuda.planar.many",
                                      &kPlanar,
                                      10,
                                      [](const LinearQuery& q) {
                                        return automatic(q) && !few(q) && gguf(q) &&
                                               gemv_blocks_supports(q.shape.format.block, true);
                                      },
                                      many_workspace,
                                      run_dequantized<true>};

// ---- fp8: codes [n, k] without gaps, and scales apart: of rows [n], or of 128 weights each [k / 128, n]

int64_t fp8_bytes(const LinearShape& shape) { return shape.n * shape.k; }
void fp8_repack(const LinearShape& shape, const std::byte* stored, std::byte* packed, int64_t row_begin,
                int64_t row_end) {
  const int64_t k = shape.k, row_bytes = shape.format.row_bytes(k);
  for (int64_t row = row_begin; row < row_end; ++row) {
    std::memcpy(packed + row * k, stored + row * row_bytes, static_cast<size_t>(k));
  }
}
int64_t fp8_scale_count(const LinearShape& shape) { return shape.n * shape.format.scales(shape.k); }
void fp8_repack_scales(const LinearShape& shape, const std::byte* stored, float* scales, int64_t row_begin,
                       int64_t row_end) {
  const int64_t row_bytes = shape.format.row_bytes(shape.k), at = QuantFormat::scales_offset(shape.k);
  for (int64_t row = row_begin; row < row_end; ++row) {
    for (int64_t g = 0; g < shape.format.scales(shape.k); ++g) {
      std::memcpy(scales + g * shape.n + row, stored + row * row_bytes + at + g * 4, sizeof(float));
    }
  }
}
constexpr Pack kFp8 = {"fp8", fp8_bytes, fp8_repack, 1, fp8_scale_count, fp8_repack_scales};

// What the library multiplies: rows of whole 16 bytes, and whole groups.
bool fp8_fits(const LinearQuery& q) {
  const LinearShape& s = q.shape;
  return automatic(q) && s.format.scheme == Scheme::kFp8 && s.n % 16 == 0 && s.k % 16 == 0 &&
         (s.format.group == 0 || (s.format.group == 128 && s.k % 128 == 0));
}

// Rows of products come in sixteens: so many rows, with some that are not there, go through the library at once, and
// their results through the workspace; of more, the last few by themselves.
constexpr int64_t kRowStep = 16, kMostPadded = 256;
int64_t fp8_padded(int64_t m) { return (m + kRowStep - 1) / kRowStep * kRowStep; }
int64_t fp8_codes_bytes(int64_t m, int64_t k) { return (fp8_padded(m) * k + 255) / 256 * 256; }
int64_t fp8_rows_bytes(int64_t m, int64_t k) { return fp8_codes_bytes(m, k) + (fp8_padded(m) * 4 + 255) / 256 * 256; }
// Of parts that are multiplied as one, when the first has n.
int64_t fp8_most_columns(int64_t n) { return std::max(n, std::min<int64_t>(4 * n, 32768)); }
int64_t fp8_workspace(const LinearShape& shape, int64_t m) {
  const int64_t results = std::min(fp8_padded(m), kMostPadded) * fp8_most_columns(shape.n) * 4;
  return std::max(fp8_rows_bytes(m, shape.k) + results, many_workspace(shape, m));
}

// Calls from the first on that scale their weights alike.
size_t fp8_alike(std::span<const LinearCall> calls) {
  size_t count = 1;
  while (count < calls.size() && calls[count].linear->shape.format == calls[0].linear->shape.format) ++count;
  return count;
}

void run_fp8_one(Exec& exec, std::span<const LinearCall> calls, void* workspace) {
  if (const size_t alike = fp8_alike(calls); alike < calls.size()) {
    run_fp8_one(exec, calls.first(alike), workspace);
    return run_fp8_one(exec, calls.subspan(alike), workspace);
  }
  if (reads_wide(calls[0].x) && calls[0].x.dtype == DType::kBF16) return gemv_fp8(stream_of(exec), calls);
  for (const LinearCall& call : calls) gemv_any(stream_of(exec), call, true);
}
constexpr LinearKernel kFp8One = {
    "cuda.fp8.one", &kFp8,      20, [](const LinearQuery& q) { return fp8_fits(q) && q.range == MRange::kOne; },
    no_workspace,   run_fp8_one};

bool fp8_follows(const LinearCall& a, const LinearCall& b) {
  const Linear &first = *a.linear, &second = *b.linear;
  return first.shape.format.group == 0 && first.w.as<char>() + first.shape.n * first.shape.k == second.w.data &&
         first.scales.as<float>() + first.shape.n == second.scales.data && !first.bias.present() &&
         !second.bias.present() && first.alpha == second.alpha &&
         static_cast<char*>(a.out.data) + first.shape.n * dtype_bytes(a.out.dtype) == b.out.data;
}

// out = product of rows [begin, begin + count) of x, of which the last sixteenths may not be there: then by way of
// `results`.
void multiply_fp8(CudaExec& exec, Fp8Product product, const LinearCall& call, int64_t begin, int64_t count,
                  void* results) {
  product.m = fp8_padded(count);
  product.x = static_cast<const uint8_t*>(product.x) + begin * product.k;
  product.x_scales += begin;
  Tensor out = call.out.rows(begin, count);
  out.shape = {count, product.n};
  const Linear& linear = *call.linear;
  if (product.m == count) {
    exec.gemm->run(exec.stream, product, out, linear.alpha);
    if (linear.bias.present() || call.epilogue.softcap > 0) {
      finish_linear(exec.stream, out, out, linear.bias, call.epilogue);
    }
    return;
  }
  const Tensor padded(results, out.dtype, {product.m, product.n}, out.place);
  exec.gemm->run(exec.stream, product, padded, linear.alpha);
  finish_linear(exec.stream, padded.rows(0, count), out, linear.bias, call.epilogue);
}

// Of calls alike: whether rows and results lie as the products want them.
bool fp8_product_fits(std::span<const LinearCall> calls) {
  for (const LinearCall& c : calls) {
    if (reinterpret_cast<uintptr_t>(c.out.data) % 16 != 0) return false;
    if (c.out.strides[0] * dtype_bytes(c.out.dtype) % 16 != 0) return false;
  }
  return calls[0].linear->shape.format.group == 0 && quantizes_fp8(calls[0].x);
}

void run_fp8_rows(Exec& base, std::span<const LinearCall> calls, void* workspace) {
  auto& exec = static_cast<CudaExec&>(base);
  const void* quantized = std::exchange(exec.quantized, nullptr);
  if (const size_t alike = fp8_alike(calls); alike < calls.size()) {
    exec.quantized = quantized;
    run_fp8_rows(base, calls.first(alike), workspace);
    return run_fp8_rows(base, calls.subspan(alike), workspace);
  }
  if (!fp8_product_fits(calls)) return run_dequantized<true>(exec, calls, workspace);
  const Tensor& x = calls[0].x;
  const int64_t m = x.shape[0], whole = m / kRowStep * kRowStep;
  const Fp8Rows rows = fp8_rows(calls[0].linear->shape, x, workspace);
  if (quantized != workspace) quantize_fp8(exec.stream, x, rows);
  // NOLINTNEXTLINE(clang-analyzer-core.NullPointerArithm): who calls with such weights brings a workspace
  void* results = static_cast<char*>(workspace) + fp8_rows_bytes(m, x.shape[1]);
  for (size_t i = 0; i < calls.size();) {
    const Linear& linear = *calls[i].linear;
    Fp8Product product{linear.w.data, linear.scales.as<const float>(), rows.codes, rows.scales, m, linear.shape.n,
                       x.shape[1]};
    size_t end = i + 1;
    for (; end < calls.size() && fp8_follows(calls[end - 1], calls[end]); ++end) {
      if (product.n + calls[end].linear->shape.n > fp8_most_columns(linear.shape.n)) break;
      product.n += calls[end].linear->shape.n;
    }
    if (m <= kMostPadded || whole == m) {
      multiply_fp8(exec, product, calls[i], 0, m, results);
    } else {
      multiply_fp8(exec, product, calls[i], 0, whole, results);
      multiply_fp8(exec, product, calls[i], whole, m - whole, results);
    }
    i = end;
  }
}
constexpr LinearKernel kFp8Rows = {
    "cuda.fp8.rows", &kFp8,       20, [](const LinearQuery& q) { return fp8_fits(q) && q.range != MRange::kOne; },
    fp8_workspace,   run_fp8_rows};

// Rows of odd lengths, which the library refuses.
constexpr LinearKernel kOddMany = {
    "cuda.odd.many", nullptr, 5, [](const LinearQuery& q) { return automatic(q) && !few(q); }, no_workspace, run_exact};

constexpr const LinearKernel* kKernels[] = {&kExact,  &kPlainFew, &kBlocksFew,       &kPlanarFew,
                                            &kAnyFew, &kBf16Rows, &kDequantizedMany, &kPlanarMany,
                                            &kFp8One, &kFp8Rows,  &kOddMany};

}  // namespace

std::span<const LinearKernel* const> linear_kernels() { return kKernels; }

Fp8Rows fp8_rows(const LinearShape& shape, const Tensor& x, void* workspace) {
  auto* codes = static_cast<uint8_t*>(workspace);
  return {codes, reinterpret_cast<float*>(codes + fp8_codes_bytes(x.shape[0], shape.k)), static_cast<int>(x.shape[0]),
          shape.format.group};
}

bool takes_quantized(std::span<const LinearCall> calls) {
  const bool ours =
      std::ranges::all_of(calls, [](const LinearCall& c) { return &c.linear->kernel(c.x.shape[0]) == &kFp8Rows; });
  return ours && fp8_alike(calls) == calls.size() && fp8_product_fits(calls);
}

}  // namespace baize::cuda
