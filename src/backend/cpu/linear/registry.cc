#include "backend/cpu/linear/registry.h"

#include <array>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "backend/cpu/linear/pack.h"
#include "backend/cpu/linear/run.h"
#include "base/check.h"

namespace baize::cpu {

// Exported by isa/linear.cc, once a variant.
namespace generic {
extern const IsaLinear kLinear;
}
#if defined(__x86_64__)
namespace avx2 {
extern const IsaLinear kLinear;
}
namespace avx512 {
extern const IsaLinear kLinear;
}
namespace amx {
extern const IsaLinear kLinear;
}
#elif defined(__aarch64__)
namespace neon {
extern const IsaLinear kLinear;
}
#endif

namespace {

constexpr int kGenericPriority = 1, kVariantPriority = 10, kTilePriority = 20;

constexpr DType kPlainDTypes[kPlainTypes] = {DType::kF32, DType::kF16, DType::kBF16};

struct Kernels {
  std::deque<std::string> names;
  std::deque<LinearKernel> kernels;
  std::vector<const LinearKernel*> list;

  void add(const IsaLinear& isa, const std::string& rest, LinearKernel kernel) {
    kernel.name = names.emplace_back(std::string(isa.name) + "." + rest).c_str();
    list.push_back(&kernels.emplace_back(kernel));
  }
};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

int64_t no_workspace(const LinearShape&, int64_t) { return 0; }

// LinearKernel holds plain functions, so the variant and the type are template arguments.
template <QuantType type>
bool is_type(const LinearQuery& query) {
  return query.shape.format.scheme == Scheme::kGguf && query.shape.format.block == gguf_type(type);
}
template <QuantType type>
bool for_one(const LinearQuery& query) {
  return is_type<type>(query) && query.compute == Compute::kAuto && query.range == MRange::kOne;
}
template <QuantType type>
bool for_more(const LinearQuery& query) {
  const bool invariant = query.compute == Compute::kInvariant;  // then for one row, too
  return is_type<type>(query) && (invariant || (query.compute == Compute::kAuto && query.range != MRange::kOne));
}
template <QuantType type>
bool for_exact(const LinearQuery& query) {
  return is_type<type>(query) && query.compute == Compute::kExact;
}
template <PlainType type>
bool is_plain_type(const LinearQuery& query) {
  return query.shape.format.scheme == Scheme::kPlain && query.shape.format.elem == kPlainDTypes[type];
}
// Dot products: for few rows; for any number where that may not matter.
template <PlainType type>
bool for_dot(const LinearQuery& query) {
  return is_plain_type<type>(query) && (query.compute == Compute::kInvariant || query.range != MRange::kMany);
}
template <PlainType type>
bool for_panels(const LinearQuery& query) {
  return is_plain_type<type>(query) && query.compute != Compute::kInvariant && query.range == MRange::kMany;
}

bool for_fp8_dot(const LinearQuery& query) {
  return query.shape.format.scheme == Scheme::kFp8 &&
         (query.compute == Compute::kInvariant || query.range != MRange::kMany);
}
bool for_fp8_panels(const LinearQuery& query) {
  return query.shape.format.scheme == Scheme::kFp8 && !for_fp8_dot(query);
}

template <const IsaLinear& isa, QuantType type>
int64_t workspace(const LinearShape& shape, int64_t m) {
  return quant_workspace(isa, type, shape, m);
}
template <const IsaLinear& isa, QuantType type>
void run_one(Exec& exec, std::span<const LinearCall> calls, void* memory) {
  run_quant(isa, type, exec, calls, memory, true);
}
template <const IsaLinear& isa, QuantType type>
void run_more(Exec& exec, std::span<const LinearCall> calls, void* memory) {
  run_quant(isa, type, exec, calls, memory, false);
}
template <const IsaLinear& isa, QuantType type>
void run_f32(Exec& exec, std::span<const LinearCall> calls, void*) {
  run_exact(isa, type, exec, calls);
}
template <const IsaLinear& isa, PlainType type>
void run_dot(Exec& exec, std::span<const LinearCall> calls, void*) {
  run_plain(isa, type, exec, calls, true);
}
template <const IsaLinear& isa, PlainType type>
void run_panels(Exec& exec, std::span<const LinearCall> calls, void*) {
  run_plain(isa, type, exec, calls, false);
}

template <const IsaLinear& isa, bool dot>
void run_eights(Exec& exec, std::span<const LinearCall> calls, void*) {
  run_fp8(isa, exec, calls, dot);
}

template <const IsaLinear& isa, QuantType type>
void add_quant(Kernels& kernels, int priority) {
  const std::string name = lower(gguf_type_info(gguf_type(type)).name);
  const Pack* pack = &kPackX16;
  kernels.add(isa, name + ".gemv", {nullptr, pack, priority, for_one<type>, workspace<isa, type>, run_one<isa, type>});
  kernels.add(isa, name + ".gemm",
              {nullptr, pack, priority, for_more<type>, workspace<isa, type>, run_more<isa, type>});
  kernels.add(isa, name + ".exact", {nullptr, pack, priority, for_exact<type>, no_workspace, run_f32<isa, type>});
}

template <const IsaLinear& isa, PlainType type>
void add_plain(Kernels& kernels, int priority) {
  const std::string name(to_string(kPlainDTypes[type]));
  kernels.add(isa, name + ".dot", {nullptr, nullptr, priority, for_dot<type>, no_workspace, run_dot<isa, type>});
  kernels.add(isa, name + ".panels",
              {nullptr, nullptr, priority, for_panels<type>, no_workspace, run_panels<isa, type>});
}

// The tile kernels for many rows; f32 weights have none.
template <QuantType type>
bool for_many(const LinearQuery& query) {
  return for_more<type>(query) && query.compute == Compute::kAuto && query.range == MRange::kMany;
}
template <PlainType type>
bool for_many_plain(const LinearQuery& query) {
  return is_plain_type<type>(query) && query.compute == Compute::kAuto && query.range == MRange::kMany;
}
template <const IsaLinear& isa, QuantType type>
void run_tiles(Exec& exec, std::span<const LinearCall> calls, void* memory) {
  run_quant_tiles(isa, type, exec, calls, memory);
}
template <const IsaLinear& isa, PlainType type>
void run_stored_tiles(Exec& exec, std::span<const LinearCall> calls, void* memory) {
  run_plain_tiles(isa, type, exec, calls, memory);
}

template <const IsaLinear& isa, QuantType type>
void add_quant_tiles(Kernels& kernels) {
  kernels.add(isa, lower(gguf_type_info(gguf_type(type)).name) + ".tiles",
              {nullptr, &kPackX16, kTilePriority, for_many<type>, tile_workspace, run_tiles<isa, type>});
}
template <const IsaLinear& isa, PlainType type>
void add_plain_tiles(Kernels& kernels) {
  kernels.add(isa, std::string(to_string(kPlainDTypes[type])) + ".tiles",
              {nullptr, nullptr, kTilePriority, for_many_plain<type>, tile_workspace, run_stored_tiles<isa, type>});
}

template <const IsaLinear& isa>
void add_tiles(Kernels& kernels) {
  [&]<int... types>(std::integer_sequence<int, types...>) {
    (add_quant_tiles<isa, static_cast<QuantType>(types)>(kernels), ...);
  }(std::make_integer_sequence<int, kQuantTypes>());
  add_plain_tiles<isa, kPlainF16>(kernels);
  add_plain_tiles<isa, kPlainBF16>(kernels);
}

template <const IsaLinear& isa>
void add_all(Kernels& kernels, int priority) {
  kernels.add(isa, "fp8.dot", {nullptr, nullptr, priority, for_fp8_dot, no_workspace, run_eights<isa, true>});
  kernels.add(isa, "fp8.panels", {nullptr, nullptr, priority, for_fp8_panels, no_workspace, run_eights<isa, false>});
  [&]<int... types>(std::integer_sequence<int, types...>) {
    (add_quant<isa, static_cast<QuantType>(types)>(kernels, priority), ...);
  }(std::make_integer_sequence<int, kQuantTypes>());
  [&]<int... types>(std::integer_sequence<int, types...>) {
    (add_plain<isa, static_cast<PlainType>(types)>(kernels, priority), ...);
  }(std::make_integer_sequence<int, kPlainTypes>());
}

Kernels make(Isa isa) {
  Kernels kernels;
  switch (isa) {
    case Isa::kGeneric:
      break;
#if defined(__x86_64__)
    case Isa::kAvx2:
      add_all<avx2::kLinear>(kernels, kVariantPriority);
      break;
    case Isa::kAvx512:
      add_all<avx512::kLinear>(kernels, kVariantPriority);
      break;
    case Isa::kAmx:
      add_all<amx::kLinear>(kernels, kVariantPriority);
      add_tiles<amx::kLinear>(kernels);
      break;
#elif defined(__aarch64__)
    case Isa::kNeon:
      add_all<neon::kLinear>(kernels, kVariantPriority);
      break;
#endif
    default:
      BAIZE_UNREACHABLE("a variant that this build does not hold");
  }
  add_all<generic::kLinear>(kernels, kGenericPriority);
  return kernels;
}

}  // namespace

std::span<const LinearKernel* const> linear_kernels(Isa isa) {
  static std::array<Kernels, 5> made = [] {
    std::array<Kernels, 5> all;
    for (const Isa usable : usable_isas()) all[static_cast<size_t>(usable)] = make(usable);
    return all;
  }();
  const Kernels& kernels = made[static_cast<size_t>(isa)];
  BAIZE_CHECK(!kernels.list.empty());
  return kernels.list;
}

}  // namespace baize::cpu
