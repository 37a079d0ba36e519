// The selective scan of one direction.

// What kChunk steps of one column need, before the states are looked at.
struct Steps {
  int64_t count;
  Vec u[kChunk], delta[kChunk], drive[kChunk], slope[kChunk], y[kChunk];
  const float* B[kChunk];
  const float* C[kChunk];
};

template <typename T>
MMSCOPE_INLINE void read_steps(const Column<T, ScanArgs>& column,
                               int64_t start, Steps* steps) {
  const ScanArgs& args = column.args;
  const int64_t left = args.seqlen - start;
  steps->count = left < kChunk ? left : kChunk;
  const Vec bias = column.parameter(args.delta_bias);
  const Vec D = column.parameter(args.D);
  for (int64_t k = 0; k < steps->count; ++k) {
    const int64_t t = start + k;
    const Vec u = column.read(args.u, t);
    Vec delta = column.read(args.delta, t) + bias;
    Vec slope = broadcast(1.0f);
    if (args.softplus) delta = softplus(delta, &slope);
    steps->u[k] = u;
    steps->delta[k] = delta;
    steps->slope[k] = slope;
    steps->drive[k] = delta * u;
    steps->y[k] = D * u;
    const int64_t token = column.token(t);
    steps->B[k] = (const float*)args.B.data +
                  column.item * args.B.batch_stride +
                  token * args.B.token_stride;
    steps->C[k] = (const float*)args.C.data +
                  column.item * args.C.batch_stride +
                  token * args.C.token_stride;
  }
}

// Run S states, from state n on, through the steps of a chunk.
template <int S>
MMSCOPE_INLINE void advance(Steps& steps, int64_t n, const Vec* A, Vec* h) {
  Vec rate[S], state[S];
  MMSCOPE_UNROLL
  for (int i = 0; i < S; ++i) {
    rate[i] = A[n + i];
    state[i] = h[n + i];
  }
  for (int64_t k = 0; k < steps.count; ++k) {
    const Vec delta = steps.delta[k], drive = steps.drive[k];
    const float* B = steps.B[k] + n;
    const float* C = steps.C[k] + n;
    Vec y = steps.y[k];
    MMSCOPE_UNROLL
    for (int i = 0; i < S; ++i) {
      state[i] = exp2(delta * rate[i]) * state[i] + drive * B[i];
      y += state[i] * C[i];
    }
    steps.y[k] = y;
  }
  MMSCOPE_UNROLL
  for (int i = 0; i < S; ++i) h[n + i] = state[i];
}

// Run all states through the steps of a chunk.
MMSCOPE_INLINE void advance(Steps& steps, int64_t d_state, const Vec* A,
                            Vec* h) {
  int64_t n = 0;
  for (; n + kStates <= d_state; n += kStates)
    advance<kStates>(steps, n, A, h);
  for (; n < d_state; ++n) advance<1>(steps, n, A, h);
}

template <typename T>
MMSCOPE_INLINE void write_steps(const Column<T, ScanArgs>& column,
                                int64_t start, const Steps& steps) {
  const ScanArgs& args = column.args;
  for (int64_t k = 0; k < steps.count; ++k) {
    const int64_t t = start + k;
    Vec y = steps.y[k];
    if (args.z.data) {
      const Vec z = column.read(args.z, t);
      y *= z * sigmoid(z);
    }
    column.write(args.out, t, y);
  }
}

// One chunk of one column, from its state `h` before to that after.
template <typename T>
static void scan_column(const Column<T, ScanArgs>& column, int64_t chunk,
                        const Vec* A, Vec* h) {
  const ScanArgs& args = column.args;
  const int64_t start = chunk * kChunk, d_state = args.d_state;
  Steps steps;
  read_steps(column, start, &steps);
  column.prefetch(args.u, start + kChunk);
  column.prefetch(args.delta, start + kChunk);
  column.prefetch(args.z, start + kChunk);
  for (int64_t n = 0; n < d_state; ++n)
    column.write_gradient(args.states, args.chunks * d_state,
                          chunk * d_state + n, h[n]);
  advance(steps, d_state, A, h);
  write_steps(column, start, steps);
}

template <typename T>
static void scan_group(const ScanArgs& args, int64_t task, float* scratch) {
  typedef Column<T, ScanArgs> Columns;
  const Group group(args.dim, args.group, task);
  const int64_t d_state = args.d_state;
  Vec* A = (Vec*)scratch;
  Vec* h = A + args.group * d_state;
  for (int64_t i = 0; i < group.columns * d_state; ++i) {
    const Columns column(args, group.item, group.first + i / d_state);
    A[i] = column.parameter(args.A, i % d_state);
    h[i] = Vec{};
  }
  for (int64_t chunk = 0; chunk < args.chunks; ++chunk)
    for (int64_t i = 0; i < group.columns; ++i)
      scan_column(Columns(args, group.item, group.first + i), chunk,
                  A + i * d_state, h + i * d_state);
}
