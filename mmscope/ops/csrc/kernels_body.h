// Kernels for one instruction set, written with the compiler's vector types.
//
// Included once per variant, which defines
//   MMSCOPE_ISA     the namespace,
//   MMSCOPE_LANES   floats in a vector,
//   MMSCOPE_STATES  states whose recurrence is kept in registers at a time.
// A vector holds neighbouring channels. Nothing of the standard library is
// used here: the linker keeps one copy of an inline function and it might be
// the one compiled for the newest instruction set.

#define MMSCOPE_INLINE static inline __attribute__((always_inline))
#define MMSCOPE_MEMBER inline __attribute__((always_inline))
#ifdef __clang__
#define MMSCOPE_UNROLL _Pragma("unroll")
#else
#define MMSCOPE_UNROLL _Pragma("GCC unroll 16")
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace mmscope {
namespace MMSCOPE_ISA {

constexpr int kLanes = MMSCOPE_LANES;
constexpr int kStates = MMSCOPE_STATES;

#include "kernels_vectors.h"
#include "kernels_columns.h"
#include "kernels_scan.h"
#include "kernels_scan_backward.h"
#include "kernels_convolution.h"
#include "kernels_inner.h"
#include "kernels_norm.h"

static void scan(const ScanArgs& args, Scalar type, int64_t task,
                 float* scratch) {
  if (type == Scalar::kFloat)
    scan_group<float>(args, task, scratch);
  else
    scan_group<BFloat16>(args, task, scratch);
}

static void scan_backward(const ScanArgs& args, Scalar type, int64_t task,
                          float* scratch) {
  if (type == Scalar::kFloat)
    scan_group_backward<float>(args, task, scratch);
  else
    scan_group_backward<BFloat16>(args, task, scratch);
}

static void conv(const ConvArgs& args, Scalar type, int64_t task) {
  if (type == Scalar::kFloat)
    conv_tokens<float>(args, task);
  else
    conv_tokens<BFloat16>(args, task);
}

static void conv_backward(const ConvArgs& args, Scalar type, int64_t task,
                          float* scratch) {
  if (type == Scalar::kFloat)
    conv_group_backward<float>(args, task, scratch);
  else
    conv_group_backward<BFloat16>(args, task, scratch);
}

static void inner_select(const InnerArgs& args, Scalar type,
                         const InnerItem& item, int64_t task) {
  if (type == Scalar::kFloat)
    select_chunk<float>(args, item, task);
  else
    select_chunk<BFloat16>(args, item, task);
}

static void inner_scan(const InnerArgs& ahead, const InnerArgs& back,
                       Scalar type, const InnerItem& item, int64_t task,
                       float* scratch) {
  if (type == Scalar::kFloat)
    scan_item<float>(ahead, back, item, task, scratch);
  else
    scan_item<BFloat16>(ahead, back, item, task, scratch);
}

static void norm(const NormArgs& args, Scalar in, Scalar out, int64_t task) {
  if (in == Scalar::kFloat)
    out == Scalar::kFloat ? norm_rows<float, float>(args, task)
                          : norm_rows<float, BFloat16>(args, task);
  else
    out == Scalar::kFloat ? norm_rows<BFloat16, float>(args, task)
                          : norm_rows<BFloat16, BFloat16>(args, task);
}

static int64_t scan_scratch(int64_t d_state) {
  return 2 * kGroup * d_state * kLanes;
}

static int64_t inner_scan_scratch(int64_t d_state) {
  return kItemGroup * d_state * kLanes;
}

static int64_t scan_backward_scratch(int64_t d_state) {
  return (2 * kChunk + 1 + 3 * kGroup) * d_state * kLanes;
}

static int64_t conv_backward_scratch(int64_t width) {
  return 4 * kGroup * width * kLanes;
}

#define MMSCOPE_TEXT_(x) #x
#define MMSCOPE_TEXT(x) MMSCOPE_TEXT_(x)

static const Kernels kTable = {
    MMSCOPE_TEXT(MMSCOPE_ISA), kLanes, scan, scan_backward, conv, conv_backward,
    pack_vector, inner_select, inner_scan, norm, scan_scratch,
    inner_scan_scratch, scan_backward_scratch, conv_backward_scratch,
};

}  // namespace MMSCOPE_ISA

#define MMSCOPE_GETTER_(isa) isa##_kernels
#define MMSCOPE_GETTER(isa) MMSCOPE_GETTER_(isa)

const Kernels* MMSCOPE_GETTER(MMSCOPE_ISA)() {
  return &MMSCOPE_ISA::kTable;
}

}  // namespace mmscope
