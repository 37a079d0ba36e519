// The causal convolution and its gradients.

// Walk one column from `start` to `end`. W is the width when it is known at
// compile time, else 0; weight(k) is its k-th tap, write(t, y) takes an output
// before the activation.
template <int W, typename T, typename Args, typename Weight, typename Write>
MMSCOPE_INLINE void slide(const Column<T, Args>& column, Weight weight,
                          Vec bias, int64_t start, int64_t end, Write write) {
  const View& x = column.args.x;
  const int64_t width = column.args.width;
  Vec taps[W ? W : 1], window[W ? W : 1];
  if (W) {
    for (int64_t k = 0; k < W; ++k) {
      taps[k] = weight(k);
      const int64_t t = start - W + k;
      window[k] = t < 0 ? Vec{} : column.read(x, t);
    }
  }
  for (int64_t t = start; t < end; ++t) {
    Vec y = bias;
    if (W) {
      MMSCOPE_UNROLL
      for (int k = 0; k + 1 < W; ++k) window[k] = window[k + 1];
      window[W ? W - 1 : 0] = column.read(x, t);
      MMSCOPE_UNROLL
      for (int k = 0; k < W; ++k) y += taps[k] * window[k];
    } else {
      for (int64_t k = t < width - 1 ? width - 1 - t : 0; k < width; ++k)
        y += weight(k) * column.read(x, t - width + 1 + k);
    }
    write(t, y);
  }
}

template <typename T, typename Args, typename Weight, typename Write>
MMSCOPE_INLINE void convolve(const Column<T, Args>& column, Weight weight,
                             Vec bias, int64_t start, int64_t end,
                             Write write) {
  if (column.args.width == 4)
    slide<4>(column, weight, bias, start, end, write);
  else
    slide<0>(column, weight, bias, start, end, write);
}

template <typename T>
static void conv_tokens(const ConvArgs& args, int64_t task) {
  const int64_t chunks = ceil_div(args.seqlen, kChunk);
  const int64_t item = task / chunks, start = task % chunks * kChunk;
  const int64_t end =
      start + kChunk < args.seqlen ? start + kChunk : args.seqlen;
  const int64_t vectors = ceil_div(args.dim, kLanes);
  for (int64_t v = 0; v < vectors; ++v) {
    const Column<T, ConvArgs> column(args, item, v);
    convolve(
        column, [&](int64_t k) { return column.parameter(args.weight, k); },
        column.parameter(args.bias), start, end, [&](int64_t t, Vec y) {
          column.write(args.out, t, args.silu ? y * sigmoid(y) : y);
        });
  }
}

// One column's memory between the chunks of the backward, each of `width`
// vectors: the inputs that reach a token, and the gradients before the
// activation of the outputs that the token reaches.
struct ConvAdjoint {
  Vec* weight;
  Vec* window;
  Vec* ahead;
  Vec* grad_weight;
  Vec bias, grad_bias;
};

template <typename T>
MMSCOPE_INLINE void start_adjoint(const Column<T, ConvArgs>& column,
                                  ConvAdjoint* adjoint) {
  const ConvArgs& args = column.args;
  for (int64_t k = 0; k < args.width; ++k) {
    const int64_t t = args.seqlen - args.width + 1 + k;
    const bool inside = t >= 0 && t < args.seqlen;
    adjoint->weight[k] = column.parameter(args.weight, k);
    adjoint->window[k] = inside ? column.read(args.x, t) : Vec{};
    adjoint->ahead[k] = adjoint->grad_weight[k] = Vec{};
  }
  adjoint->bias = column.parameter(args.bias);
  adjoint->grad_bias = Vec{};
}

// Walks tokens backwards, from end - 1 to start. W is the width or 0.
template <typename T, int W>
static void conv_column_backward(const Column<T, ConvArgs>& column,
                                 int64_t start, int64_t end,
                                 ConvAdjoint* adjoint) {
  const ConvArgs& args = column.args;
  const int64_t width = W ? W : args.width;
  Vec fixed[W ? 4 * W : 1];
  Vec* weight = W ? fixed : adjoint->weight;
  Vec* window = W ? fixed + W : adjoint->window;
  Vec* ahead = W ? fixed + 2 * W : adjoint->ahead;
  Vec* grad_weight = W ? fixed + 3 * W : adjoint->grad_weight;
  if (W) {
    MMSCOPE_UNROLL
    for (int k = 0; k < 4 * W; ++k) fixed[k] = adjoint->weight[k];
  }
  for (int64_t t = end - 1; t >= start; --t) {
    MMSCOPE_UNROLL
    for (int64_t k = width - 1; k > 0; --k) {
      window[k] = window[k - 1];
      ahead[k] = ahead[k - 1];
    }
    const int64_t oldest = t - width + 1;
    window[0] = oldest < 0 ? Vec{} : column.read(args.x, oldest);
    Vec grad = column.read(args.grad, t);
    if (args.silu) {
      Vec y = adjoint->bias;
      MMSCOPE_UNROLL
      for (int64_t k = 0; k < width; ++k) y += weight[k] * window[k];
      const Vec s = sigmoid(y);
      grad *= s * (1.0f + y * (1.0f - s));
    }
    ahead[0] = grad;
    adjoint->grad_bias += grad;
    Vec grad_x = Vec{};
    MMSCOPE_UNROLL
    for (int64_t k = 0; k < width; ++k) {
      grad_x += weight[width - 1 - k] * ahead[k];
      grad_weight[k] += grad * window[k];
    }
    column.write(args.grad_x, t, grad_x);
  }
  if (W) {
    MMSCOPE_UNROLL
    for (int k = W; k < 4 * W; ++k) adjoint->weight[k] = fixed[k];
  }
}

template <typename T>
static void conv_group_backward(const ConvArgs& args, int64_t task,
                                float* scratch) {
  typedef Column<T, ConvArgs> Columns;
  const Group group(args.dim, kGroup, task);
  const int64_t width = args.width;
  ConvAdjoint adjoints[kGroup];
  Vec* memory = (Vec*)scratch;
  for (int64_t i = 0; i < group.columns; ++i, memory += 4 * width) {
    adjoints[i] = ConvAdjoint{memory, memory + width, memory + 2 * width,
                              memory + 3 * width, Vec{}, Vec{}};
    start_adjoint(Columns(args, group.item, group.first + i), &adjoints[i]);
  }
  for (int64_t end = args.seqlen; end > 0;) {
    const int64_t start = end < kChunk ? 0 : end - kChunk;
    for (int64_t i = 0; i < group.columns; ++i) {
      const Columns column(args, group.item, group.first + i);
      column.prefetch(args.x, start - kChunk);
      column.prefetch(args.grad, start - kChunk);
      if (width == 4)
        conv_column_backward<T, 4>(column, start, end, &adjoints[i]);
      else
        conv_column_backward<T, 0>(column, start, end, &adjoints[i]);
    }
    end = start;
  }
  for (int64_t i = 0; i < group.columns; ++i) {
    const Columns column(args, group.item, group.first + i);
    for (int64_t k = 0; k < width; ++k)
      column.write_gradient(args.grad_weight, width, k,
                            adjoints[i].grad_weight[k]);
    column.write_gradient(args.grad_bias, 1, 0, adjoints[i].grad_bias);
  }
}
