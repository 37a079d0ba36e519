// The CPU kernels as operators of torch: checks, memory, threads, dispatch.
#include <Python.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels.h"

namespace mmscope {
namespace {

using at::Tensor;
using OptionalTensor = c10::optional<Tensor>;

// ------------------------------------------------------- instruction sets

bool machine_runs(const std::string& name) {
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (name == "avx2")
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return name == "portable";
}

// Best first.
std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> found;
  for (const Kernels* k :
       {avx512_kernels(), avx2_kernels(), portable_kernels()})
    if (k && machine_runs(k->name)) found.push_back(k);
  return found;
}

const Kernels* kernels_named(const std::string& name) {
  std::string known;
  for (const Kernels* k : runnable_kernels()) {
    if (name == k->name) return k;
    known += known.empty() ? k->name : std::string(", ") + k->name;
  }
  TORCH_CHECK_VALUE(false, "instruction set '", name,
                    "' cannot run here; this machine and build have: ", known);
}

std::atomic<const Kernels*>& current_kernels() {
  static std::atomic<const Kernels*> current(runnable_kernels().front());
  return current;
}

std::string cpu_isa() { return current_kernels().load()->name; }

std::vector<std::string> cpu_isas() {
  std::vector<std::string> names;
  for (const Kernels* k : runnable_kernels()) names.push_back(k->name);
  return names;
}

void set_cpu_isa(std::string name) { current_kernels() = kernels_named(name); }

// ------------------------------------------------------------------ memory

// The kernels read channels in vectors, so only the last stride must be 1.
Tensor with_dense_channels(const Tensor& x, at::ScalarType type) {
  const Tensor y = x.to(type);
  return y.stride(-1) == 1 || y.size(-1) <= 1 ? y : y.contiguous();
}

View view(const Tensor& x) {
  return {x.data_ptr(), x.stride(0), x.stride(1)};
}

Tensor parameter(const Tensor& x) { return x.to(at::kFloat).contiguous(); }

Tensor parameter(const OptionalTensor& x) {
  return x.has_value() ? parameter(*x) : Tensor();
}

template <typename T = float>
T* pointer(const Tensor& x) {
  return x.defined() ? static_cast<T*>(x.data_ptr()) : nullptr;
}

// float16 is widened: its kernels would save memory traffic only.
at::ScalarType compute_type(const Tensor& x) {
  const auto type = x.scalar_type();
  TORCH_CHECK_VALUE(
      type == at::kFloat || type == at::kBFloat16 || type == at::kHalf,
      "the cpu backend takes float32, bfloat16 or float16, got ", type,
      "; use backend='reference'");
  return type == at::kHalf ? at::kFloat : type;
}

Scalar scalar(at::ScalarType type) {
  return type == at::kBFloat16 ? Scalar::kBFloat16 : Scalar::kFloat;
}

Tensor gradient_of(const OptionalTensor& x, at::IntArrayRef sizes,
                   const Tensor& like) {
  return x.has_value() ? at::empty(sizes, like.options()) : Tensor();
}

// A returned tensor must be defined: absent inputs get an empty gradient.
Tensor finished(const Tensor& grad, const Tensor& like, at::ScalarType type) {
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

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// -------------------------------------------------------------------- scan

// The inputs in the form the kernels want, kept alive beside the pointers.
struct ScanInputs {
  Tensor u, delta, A, B, C, D, z, delta_bias;
  at::ScalarType type;
  ScanArgs args{};

  ScanInputs(const Tensor& u_, const Tensor& delta_, const Tensor& A_,
             const Tensor& B_, const Tensor& C_, const OptionalTensor& D_,
             const OptionalTensor& z_, const OptionalTensor& bias_,
             bool softplus, bool reverse)
      : type(compute_type(u_)) {
    u = with_dense_channels(u_, type);
    delta = with_dense_channels(delta_, type);
    B = with_dense_channels(B_, at::kFloat);
    C = with_dense_channels(C_, at::kFloat);
    // The kernels raise 2, not e, to a power, and do not expect infinity.
    A = (parameter(A_) * 1.4426950408889634).clamp(-1e30, 1e30);
    A = A.t().contiguous();
    D = parameter(D_);
    delta_bias = parameter(bias_);
    args.batch = u.size(0);
    args.seqlen = u.size(1);
    args.dim = u.size(2);
    args.d_state = A_.size(1);
    args.chunks = ceil_div(args.seqlen, kChunk);
    args.softplus = softplus;
    args.reverse = reverse;
    args.u = view(u);
    args.delta = view(delta);
    args.B = view(B);
    args.C = view(C);
    args.A = pointer(A);
    args.D = pointer(D);
    args.delta_bias = pointer(delta_bias);
    if (z_.has_value()) {
      z = with_dense_channels(*z_, type);
      args.z = view(z);
    }
  }
};

std::tuple<Tensor, Tensor> selective_scan(
    const Tensor& u, const Tensor& delta, const Tensor& A, const Tensor& B,
    const Tensor& C, const OptionalTensor& D, const OptionalTensor& z,
    const OptionalTensor& delta_bias, bool delta_softplus, bool reverse,
    bool save_states) {
  ScanInputs in(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse);
  ScanArgs& args = in.args;
  Tensor out = at::empty(u.sizes(), u.options().dtype(in.type));
  Tensor states = at::empty({0}, u.options().dtype(at::kFloat));
  if (save_states) {
    states = at::empty({args.batch, args.chunks, args.d_state, args.dim},
                       states.options());
    args.states = pointer(states);
  }
  args.out = out.data_ptr();
  const Kernels* kernels = current_kernels();
  const int64_t vectors = ceil_div(args.dim, kernels->lanes);
  // Wide groups read memory in longer runs; narrow ones feed more threads.
  args.group = std::clamp<int64_t>(
      args.batch * vectors / (4 * at::get_num_threads()), 1, kGroup);
  if (out.numel() > 0)
    for_tasks(args.batch * ceil_div(vectors, args.group),
              args.group * args.seqlen * (args.d_state + 4),
              kernels->scan_scratch(args.d_state),
              [&](int64_t task, float* scratch) {
                kernels->scan(args, scalar(in.type), task, scratch);
              });
  return {out.to(u.scalar_type()), states};
}

using ScanGradients =
    std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

ScanGradients selective_scan_backward(
    const Tensor& grad, const Tensor& u, const Tensor& delta, const Tensor& A,
    const Tensor& B, const Tensor& C, const OptionalTensor& D,
    const OptionalTensor& z, const OptionalTensor& delta_bias,
    const Tensor& saved_states, bool delta_softplus, bool reverse) {
  ScanInputs in(u, delta, A, B, C, D, z, delta_bias, delta_softplus, reverse);
  ScanArgs& args = in.args;
  const Kernels* kernels = current_kernels();
  const int64_t groups =
      ceil_div(ceil_div(args.dim, kernels->lanes), kGroup);
  const Tensor grad_out = with_dense_channels(grad, in.type);
  const Tensor states = saved_states.contiguous();
  const Tensor like = at::empty({0}, u.options().dtype(in.type));
  const Tensor real = at::empty({0}, u.options().dtype(at::kFloat));
  Tensor grad_u = at::empty(u.sizes(), like.options());
  Tensor grad_delta = at::empty(u.sizes(), like.options());
  Tensor grad_z = gradient_of(z, u.sizes(), like);
  // Every task writes its own part; the sums below end in a fixed order, so
  // the number of threads never changes a result.
  Tensor grad_A = at::empty({args.batch, args.d_state, args.dim},
                            real.options());
  Tensor grad_B = at::empty({groups, args.batch, args.seqlen, args.d_state},
                            real.options());
  Tensor grad_C = at::empty_like(grad_B);
  Tensor grad_D = gradient_of(D, {args.batch, args.dim}, real);
  Tensor grad_bias = gradient_of(delta_bias, {args.batch, args.dim}, real);
  args.states = pointer(states);
  args.grad = view(grad_out);
  args.grad_u = grad_u.data_ptr();
  args.grad_delta = grad_delta.data_ptr();
  args.grad_z = pointer<void>(grad_z);
  args.grad_A = pointer(grad_A);
  args.grad_B = pointer(grad_B);
  args.grad_C = pointer(grad_C);
  args.grad_D = pointer(grad_D);
  args.grad_bias = pointer(grad_bias);
  if (u.numel() > 0)
    for_tasks(args.batch * groups, kGroup * args.seqlen * (args.d_state + 4),
              kernels->scan_backward_scratch(args.d_state),
              [&](int64_t task, float* scratch) {
                kernels->scan_backward(args, scalar(in.type), task, scratch);
              });
  else
    for (Tensor* x : {&grad_A, &grad_B, &grad_C, &grad_D, &grad_bias})
      if (x->defined()) x->zero_();
  const auto over_batch = [](const Tensor& x) {
    return x.defined() ? x.sum(0) : x;
  };
  const OptionalTensor none;
  return {grad_u.to(u.scalar_type()),
          grad_delta.to(delta.scalar_type()),
          grad_A.sum(0).t().to(A.scalar_type()).contiguous(),
          grad_B.sum(0).to(B.scalar_type()),
          grad_C.sum(0).to(C.scalar_type()),
          finished(over_batch(grad_D), real,
                   D ? D->scalar_type() : at::kFloat),
          finished(grad_z, like, z ? z->scalar_type() : in.type),
          finished(over_batch(grad_bias), real,
                   delta_bias ? delta_bias->scalar_type() : at::kFloat)};
}

// ------------------------------------------------------------- convolution

struct ConvInputs {
  Tensor x, weight, bias;
  at::ScalarType type;
  ConvArgs args{};

  ConvInputs(const Tensor& x_, const Tensor& weight_,
             const OptionalTensor& bias_, bool silu, bool reverse)
      : type(compute_type(x_)) {
    x = with_dense_channels(x_, type);
    weight = parameter(weight_.t());
    bias = parameter(bias_);
    args.batch = x.size(0);
    args.seqlen = x.size(1);
    args.dim = x.size(2);
    args.width = weight.size(0);
    args.silu = silu;
    args.reverse = reverse;
    args.x = view(x);
    args.weight = pointer(weight);
    args.bias = pointer(bias);
  }
};

Tensor causal_conv1d(const Tensor& x, const Tensor& weight,
                     const OptionalTensor& bias, bool silu, bool reverse) {
  ConvInputs in(x, weight, bias, silu, reverse);
  ConvArgs& args = in.args;
  Tensor out = at::empty(x.sizes(), x.options().dtype(in.type));
  args.out = out.data_ptr();
  const Kernels* kernels = current_kernels();
  if (out.numel() > 0)
    for_tasks(args.batch * ceil_div(args.seqlen, kChunk),
              kChunk * args.dim / kernels->lanes, 0,
              [&](int64_t task, float*) {
                kernels->conv(args, scalar(in.type), task);
              });
  return out.to(x.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> causal_conv1d_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight,
    const OptionalTensor& bias, bool silu, bool reverse) {
  ConvInputs in(x, weight, bias, silu, reverse);
  ConvArgs& args = in.args;
  const Tensor grad_out = with_dense_channels(grad, in.type);
  const auto real = x.options().dtype(at::kFloat);
  Tensor grad_x = at::empty(x.sizes(), x.options().dtype(in.type));
  Tensor grad_weight = at::empty({args.batch, args.width, args.dim}, real);
  Tensor grad_bias = gradient_of(bias, {args.batch, args.dim}, grad_weight);
  args.grad = view(grad_out);
  args.grad_x = grad_x.data_ptr();
  args.grad_weight = pointer(grad_weight);
  args.grad_bias = pointer(grad_bias);
  const Kernels* kernels = current_kernels();
  const int64_t groups =
      ceil_div(ceil_div(args.dim, kernels->lanes), kGroup);
  if (x.numel() > 0) {
    for_tasks(args.batch * groups, kGroup * args.seqlen * 2,
              kernels->conv_backward_scratch(args.width),
              [&](int64_t task, float* scratch) {
                kernels->conv_backward(args, scalar(in.type), task, scratch);
              });
  } else {
    grad_weight.zero_();
    if (grad_bias.defined()) grad_bias.zero_();
  }
  if (grad_bias.defined()) grad_bias = grad_bias.sum(0);
  return {grad_x.to(x.scalar_type()),
          grad_weight.sum(0).t().to(weight.scalar_type()).contiguous(),
          finished(grad_bias, grad_weight,
                   bias ? bias->scalar_type() : at::kFloat)};
}

}  // namespace

// The schemas of the operators are written once, in library.py.
TORCH_LIBRARY_FRAGMENT(mmscope, m) {
  m.def("cpu_isa() -> str", &cpu_isa);
  m.def("cpu_isas() -> str[]", &cpu_isas);
  m.def("set_cpu_isa(str name) -> ()", &set_cpu_isa);
}

TORCH_LIBRARY_IMPL(mmscope, CPU, m) {
  m.impl("selective_scan_cpu", &selective_scan);
  m.impl("selective_scan_cpu_backward", &selective_scan_backward);
  m.impl("causal_conv1d_cpu", &causal_conv1d);
  m.impl("causal_conv1d_cpu_backward", &causal_conv1d_backward);
}

}  // namespace mmscope

// Importing the module registers the operators; it holds nothing itself.
#define MMSCOPE_INIT_(name) PyInit_##name
#define MMSCOPE_INIT(name) MMSCOPE_INIT_(name)
#define MMSCOPE_NAME_(name) #name
#define MMSCOPE_NAME(name) MMSCOPE_NAME_(name)

PyMODINIT_FUNC MMSCOPE_INIT(TORCH_EXTENSION_NAME)(void) {
  static PyModuleDef definition = {
      PyModuleDef_HEAD_INIT, MMSCOPE_NAME(TORCH_EXTENSION_NAME), nullptr, -1,
      nullptr,               nullptr,                            nullptr,
      nullptr,               nullptr};
  return PyModule_Create(&definition);
}
