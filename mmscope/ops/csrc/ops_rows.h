// Convolution and norm, which work on rows, as operators of torch.
#pragma once

#include <torch/library.h>

#include <tuple>

#include "ops.h"

namespace mmscope {
namespace {

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

// The residual stream x + residual and its RMS norm, in the dtype of weight.
std::tuple<Tensor, Tensor> add_rms_norm(const Tensor& x_,
                                        const OptionalTensor& residual_,
                                        const Tensor& weight_, double eps) {
  const Tensor x = x_.to(compute_type(x_)).contiguous();
  const Tensor residual = parameter(residual_);
  const Tensor weight = parameter(weight_);
  const auto type = compute_type(weight_);
  Tensor stream = at::empty(x.sizes(), x.options().dtype(at::kFloat));
  Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  NormArgs args{};
  args.dim = x.size(-1);
  args.rows = args.dim ? x.numel() / args.dim : 0;
  args.eps = (float)eps;
  args.x = {x.data_ptr(), 0, args.dim};
  args.residual = pointer(residual);
  args.weight = pointer(weight);
  args.stream = pointer(stream);
  args.out = out.data_ptr();
  const Kernels* kernels = current_kernels();
  if (args.rows > 0)
    for_tasks(ceil_div(args.rows, kChunk), kChunk * args.dim / kernels->lanes,
              0, [&](int64_t task, float*) {
                kernels->norm(args, scalar(x.scalar_type()), scalar(type),
                              task);
              });
  return {out.to(weight_.scalar_type()), stream};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmscope, CPU, m) {
  m.impl("causal_conv1d_cpu", &causal_conv1d);
  m.impl("causal_conv1d_cpu_backward", &causal_conv1d_backward);
  m.impl("add_rms_norm_cpu", &add_rms_norm);
}

}  // namespace mmscope
