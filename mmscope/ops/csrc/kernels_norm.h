// The residual stream and its norm.

// One row: stream = x + residual, out = stream / rms(stream) * weight.
template <typename T, typename Out>
static void norm_row(const NormArgs& args, int64_t row) {
  const T* x = (const T*)args.x.data + row * args.x.token_stride;
  const float* residual =
      args.residual ? args.residual + row * args.dim : nullptr;
  float* stream = args.stream + row * args.dim;
  Out* out = (Out*)args.out + row * args.dim;
  Vec squares = Vec{};
  for (int64_t i = 0; i < args.dim; i += kLanes) {
    const int64_t left = args.dim - i;
    const int count = left < kLanes ? (int)left : kLanes;
    Vec sum = load(x + i, count);
    if (residual) sum += load(residual + i, count);
    store(stream + i, sum, count);
    squares += sum * sum;
  }
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += squares[i];
  const float scale =
      1.0f / __builtin_sqrtf(total / (float)args.dim + args.eps);
  for (int64_t i = 0; i < args.dim; i += kLanes) {
    const int64_t left = args.dim - i;
    const int count = left < kLanes ? (int)left : kLanes;
    const Vec value = load(stream + i, count) * scale;
    store(out + i, value * load(args.weight + i, count), count);
  }
}

template <typename T, typename Out>
static void norm_rows(const NormArgs& args, int64_t task) {
  const int64_t start = task * kChunk;
  const int64_t end =
      start + kChunk < args.rows ? start + kChunk : args.rows;
  for (int64_t row = start; row < end; ++row) norm_row<T, Out>(args, row);
}
