// Both directions of a mixer between its two projections, for inference.
#pragma once

#include <torch/library.h>

#include <tuple>

#include "ops.h"

namespace mmscope {
namespace {

// One direction's parameters in the form the kernels want, kept alive beside
// the pointers.
struct Direction {
  Tensor taps, conv_bias, x_proj, dt_proj, dt_bias, A_log, D, packed;
  InnerArgs args{};

  Direction(const Tensor& taps_, const Tensor& conv_bias_,
            const Tensor& x_proj_, const Tensor& dt_proj_,
            const Tensor& dt_bias_, const Tensor& A_log_, const Tensor& D_,
            bool reverse)
      : taps(parameter(taps_)),
        conv_bias(parameter(conv_bias_)),
        x_proj(parameter(x_proj_)),
        dt_proj(parameter(dt_proj_)),
        dt_bias(parameter(dt_bias_)),
        A_log(parameter(A_log_)),
        D(parameter(D_)) {
    args.dim = taps.size(0);
    args.width = taps.size(1);
    args.rank = dt_proj.size(1);
    args.d_state = A_log.size(1);
    args.reverse = reverse;
    args.taps = pointer(taps);
    args.conv_bias = pointer(conv_bias);
    args.x_proj = pointer(x_proj);
    args.dt_proj = pointer(dt_proj);
    args.dt_bias = pointer(dt_bias);
    args.A_log = pointer(A_log);
    args.D = pointer(D);
  }

  void pack(const Kernels* kernels) {
    const int64_t vectors = ceil_div(args.dim, kernels->lanes);
    const int64_t rows = args.d_state + args.rank + args.width + 3;
    packed = at::empty({vectors, rows, kernels->lanes}, A_log.options());
    args.packed = pointer(packed);
    for_tasks(vectors, rows * kernels->lanes, 0, [&](int64_t task, float*) {
      kernels->inner_pack(args, task);
    });
  }
};

// What one batch item needs between the kernels, in floats.
struct ItemMemory {
  int64_t panels, selected, all;

  ItemMemory(const InnerArgs& args, int64_t lanes) {
    const auto aligned = [](int64_t floats) {
      return ceil_div(floats, kMaxLanes) * kMaxLanes;
    };
    const int64_t chunks = ceil_div(args.seqlen, kChunk);
    panels = aligned(ceil_div(args.dim, lanes) * lanes * chunks * kChunk);
    selected = aligned(args.seqlen * (args.rank + 2 * args.d_state));
    all = 2 * (panels + selected);
  }

  InnerItem place(int64_t index, float* start) const {
    float* rest = start + 2 * panels;
    return {index, {start, start + panels}, {rest, rest + selected}};
  }
};

// All batch items. As long as every thread has one to itself, nobody waits and
// an item stays in its thread's cache; the threads share each of the rest.
template <typename F>
void for_items(int64_t batch, const ItemMemory& sizes, const Tensor& like,
               const F& run) {
  const int64_t threads = at::get_num_threads();
  const int64_t together = batch / threads * threads;
  const int64_t places = together > 0 ? threads : 1;
  const Tensor memory = at::empty({places, sizes.all}, like.options());
  at::parallel_for(0, together, 1, [&](int64_t begin, int64_t end) {
    // A caller's own threads may be more than ours; each call has memory.
    const int64_t place = std::min<int64_t>(at::get_thread_num(), places - 1);
    float* start = pointer(memory) + place * sizes.all;
    for (int64_t i = begin; i < end; ++i) run(sizes.place(i, start));
  });
  for (int64_t i = together; i < batch; ++i)
    run(sizes.place(i, pointer(memory)));
}

// One batch item: all of the selection, then the scans that need all of it.
void run_item(const Kernels* kernels, const InnerArgs& ahead,
              const InnerArgs& back, Scalar type, const InnerItem& item) {
  const int64_t vectors = ceil_div(ahead.dim, kernels->lanes);
  const int64_t chunks = ceil_div(ahead.seqlen, kChunk);
  for_tasks(2 * chunks, kChunk * vectors * 64, 0, [&](int64_t task, float*) {
    // Both directions of the same tokens, one after the other: the second
    // finds its input in the cache.
    const bool reverse = task % 2;
    const int64_t chunk = task / 2;
    kernels->inner_select(reverse ? back : ahead, type, item,
                          reverse ? chunks - 1 - chunk : chunk);
  });
  for_tasks(ceil_div(vectors, ahead.group),
            2 * ahead.group * ahead.seqlen * (ahead.d_state + 4),
            kernels->inner_scan_scratch(ahead.d_state),
            [&](int64_t task, float* scratch) {
              kernels->inner_scan(ahead, back, type, item, task, scratch);
            });
}

std::tuple<Tensor, Tensor> bidirectional_inner(
    const Tensor& x_, const Tensor& z_, at::TensorList taps,
    at::TensorList conv_bias, at::TensorList x_proj, at::TensorList dt_proj,
    at::TensorList dt_bias, at::TensorList A_log, at::TensorList D,
    bool scored) {
  const auto type = compute_type(x_);
  const Tensor x = with_dense_channels(x_, type);
  const Tensor z = with_dense_channels(z_, type);
  const Kernels* kernels = current_kernels();
  const int64_t batch = x.size(0), seqlen = x.size(1);
  const int64_t vectors = ceil_div(x.size(2), kernels->lanes);
  const int64_t group = group_size(batch, vectors, kItemGroup);
  const int64_t groups = ceil_div(vectors, group);
  const auto real = x.options().dtype(at::kFloat);
  Tensor out = at::empty(x.sizes(), x.options());
  Tensor maxima = at::empty({0}, real);
  if (scored) maxima = at::empty({2, groups, batch, seqlen}, real);
  std::vector<Direction> both;
  for (int64_t d = 0; d < 2; ++d) {
    both.emplace_back(taps[d], conv_bias[d], x_proj[d], dt_proj[d],
                      dt_bias[d], A_log[d], D[d], d == 1);
    both[d].pack(kernels);
    InnerArgs& args = both[d].args;
    args.batch = batch;
    args.seqlen = seqlen;
    args.group = group;
    args.x = view(x);
    args.z = view(z);
    args.out = out.data_ptr();
    args.maxima = scored ? pointer(maxima[d]) : nullptr;
  }
  if (out.numel() > 0)
    for_items(batch, ItemMemory(both[0].args, kernels->lanes), maxima,
              [&](const InnerItem& item) {
                run_item(kernels, both[0].args, both[1].args, scalar(type),
                         item);
              });
  return {out.to(x_.scalar_type()), scored ? maxima.amax(1) : maxima};
}

}  // namespace

TORCH_LIBRARY_IMPL(mmscope, CPU, m) {
  m.impl("bidirectional_inner_cpu", &bidirectional_inner);
}

}  // namespace mmscope
