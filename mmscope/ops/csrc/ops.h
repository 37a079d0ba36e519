// What the operators share: memory in the form that the kernels want, and
// threads.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>

#include "kernels.h"

namespace mmscope {

using at::Tensor;
using OptionalTensor = c10::optional<Tensor>;

// The kernels in use; ops.cpp chooses them.
std::atomic<const Kernels*>& current_kernels();

// The kernels read channels in vectors, so only the last stride must be 1.
inline Tensor with_dense_channels(const Tensor& x, at::ScalarType type) {
  const Tensor y = x.to(type);
  return y.stride(-1) == 1 || y.size(-1) <= 1 ? y : y.contiguous();
}

inline View view(const Tensor& x) {
  return {x.data_ptr(), x.stride(0), x.stride(1)};
}

inline Tensor parameter(const Tensor& x) {
  return x.to(at::kFloat).contiguous();
}

inline Tensor parameter(const OptionalTensor& x) {
  return x.has_value() ? parameter(*x) : Tensor();
}

template <typename T = float>
T* pointer(const Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

// float16 is widened: its kernels would save memory traffic only.
inline at::ScalarType compute_type(const Tensor& x) {
  const auto type = x.scalar_type();
  TORCH_CHECK_VALUE(
      type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
      "the cpu backend takes float32, bfloat16 or float16, got ", type,
      "; use backend='reference'");
  return type == at::kHalf ? at::kFloat : type;
}

inline Scalar scalar(at::ScalarType type) {
  return type == at::kBFloat16 ? Scalar::kBFloat16 : Scalar::kFloat;
}

inline Tensor gradient_of(const OptionalTensor& x, at::IntArrayRef sizes,
                          const Tensor& like) {
  return x.has_value() ? at::empty(sizes, like.options()) : Tensor();
}

// A returned tensor must be defined: absent inputs get an empty gradient.
inline Tensor finished(const Tensor& grad, const Tensor& like,
                       at::ScalarType type) {
  return grad.defined() ? grad.to(type) : at::empty({0}, like.options());
}

// Run tasks on all threads, each with scratch memory aligned for any vector.
template <typename F>
void for_tasks(int64_t tasks, int64_t cost, int64_t scratch, const F& run) {
  constexpr int64_t kWorthAThread = 16384;
  const int64_t grain = std::max<int64_t>(1, kWorthAThread / (cost + 1));
  at::parallel_for(0, tasks, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> memory(scratch + kMaxLanes);
    void* start = memory.data();
    size_t space = memory.size() * sizeof(float);
    std::align(kMaxLanes * sizeof(float), scratch * sizeof(float), start,
               space);
    for (int64_t task = begin; task < end; ++task)
      run(task, static_cast<float*>(start));
  });
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Vectors of channels in one task of a scan: many read memory in longer runs,
// few feed more threads.
inline int64_t group_size(int64_t batch, int64_t vectors,
                          int64_t most = kGroup) {
  return std::clamp<int64_t>(batch * vectors / (4 * at::get_num_threads()), 1,
                             most);
}

}  // namespace mmscope
