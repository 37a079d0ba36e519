// The selective scan as operators of torch.
#pragma once

#include <torch/library.h>

#include <tuple>

#include "ops.h"

namespace mmscope {
namespace {

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
  args.group = group_size(args.batch, vectors);
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

}  // namespace

// The schemas of the operators are written once, in library.py.
TORCH_LIBRARY_IMPL(mmscope, CPU, m) {
  m.impl("selective_scan_cpu", &selective_scan);
  m.impl("selective_scan_cpu_backward", &selective_scan_backward);
}

}  // namespace mmscope
