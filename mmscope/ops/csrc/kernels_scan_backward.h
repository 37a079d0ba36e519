// Gradients of the selective scan.

// One column's memory between the chunks of the backward.
struct Adjoint {
  Vec* A;
  Vec* grad_h;  // of the state that the next chunk (one step earlier) left
  Vec* grad_A;
  Vec grad_D, grad_bias;
};

// Gradients of one chunk; sums over states and, for B and C, over columns.
struct ChunkGradients {
  Vec y[kChunk];       // of the output before the gate
  Vec drive[kChunk];   // sum over n of grad_h B
  Vec decay[kChunk];   // sum over n of grad_h h A, A times log2(e)
  Vec* B;              // (kChunk, d_state)
  Vec* C;              // (kChunk, d_state)
};

// Recompute S states of a chunk from its saved start, then run backwards:
//   grad_h[t] = C[t] grad_y[t] + exp(delta[t + 1] A) grad_h[t + 1].
template <int S>
MMSCOPE_INLINE void retreat(Steps& steps, int64_t n, int64_t d_state,
                            const Vec* start, Adjoint& adjoint,
                            ChunkGradients& grads) {
  Vec decay[kChunk * S], carried[kChunk * S];
  Vec rate[S], state[S];
  MMSCOPE_UNROLL
  for (int i = 0; i < S; ++i) {
    rate[i] = adjoint.A[n + i];
    state[i] = start[n + i];
  }
  for (int64_t k = 0; k < steps.count; ++k) {
    const Vec delta = steps.delta[k], drive = steps.drive[k];
    const Vec grad_y = grads.y[k];
    const float* B = steps.B[k] + n;
    const float* C = steps.C[k] + n;
    Vec* grad_C = grads.C + k * d_state + n;
    Vec y = steps.y[k];
    MMSCOPE_UNROLL
    for (int i = 0; i < S; ++i) {
      const Vec a = exp2(delta * rate[i]);
      const Vec kept = a * state[i];
      decay[k * S + i] = a;
      carried[k * S + i] = kept;
      state[i] = kept + drive * B[i];
      y += state[i] * C[i];
      grad_C[i] += grad_y * state[i];
    }
    steps.y[k] = y;
  }
  Vec grad_h[S], grad_A[S];
  MMSCOPE_UNROLL
  for (int i = 0; i < S; ++i) {
    grad_h[i] = adjoint.grad_h[n + i];
    grad_A[i] = adjoint.grad_A[n + i];
  }
  for (int64_t k = steps.count - 1; k >= 0; --k) {
    const Vec delta = steps.delta[k], drive = steps.drive[k];
    const Vec grad_y = grads.y[k];
    const float* B = steps.B[k] + n;
    const float* C = steps.C[k] + n;
    Vec* grad_B = grads.B + k * d_state + n;
    Vec grad_drive = grads.drive[k], grad_decay = grads.decay[k];
    MMSCOPE_UNROLL
    for (int i = 0; i < S; ++i) {
      const Vec g = grad_h[i] + grad_y * C[i];
      const Vec q = g * carried[k * S + i];
      grad_drive += g * B[i];
      grad_decay += q * rate[i];
      grad_B[i] += g * drive;
      grad_A[i] += q * delta;
      grad_h[i] = g * decay[k * S + i];
    }
    grads.drive[k] = grad_drive;
    grads.decay[k] = grad_decay;
  }
  MMSCOPE_UNROLL
  for (int i = 0; i < S; ++i) {
    adjoint.grad_h[n + i] = grad_h[i];
    adjoint.grad_A[n + i] = grad_A[i];
  }
}

// All gradients of one column over one chunk; B's and C's are added to grads.
template <typename T>
static void scan_column_backward(const Column<T, ScanArgs>& column,
                                 int64_t chunk, Adjoint& adjoint,
                                 ChunkGradients& grads, Vec* state) {
  const ScanArgs& args = column.args;
  const int64_t start = chunk * kChunk, d_state = args.d_state;
  Steps steps;
  read_steps(column, start, &steps);
  column.prefetch(args.u, start - kChunk);
  column.prefetch(args.delta, start - kChunk);
  column.prefetch(args.z, start - kChunk);
  column.prefetch(args.grad, start - kChunk);
  Vec gate_slope[kChunk];
  for (int64_t k = 0; k < steps.count; ++k) {
    const Vec grad = column.read(args.grad, start + k);
    grads.y[k] = grad;
    grads.drive[k] = grads.decay[k] = Vec{};
    if (args.z.data) {
      const Vec z = column.read(args.z, start + k);
      const Vec s = sigmoid(z);
      grads.y[k] = grad * z * s;
      gate_slope[k] = grad * s * (1.0f + z * (1.0f - s));
    }
  }
  for (int64_t n = 0; n < d_state; ++n)
    state[n] = column.parameter(
        args.states, (column.item * args.chunks + chunk) * d_state + n);
  int64_t n = 0;
  for (; n + kStates <= d_state; n += kStates)
    retreat<kStates>(steps, n, d_state, state, adjoint, grads);
  for (; n < d_state; ++n)
    retreat<1>(steps, n, d_state, state, adjoint, grads);
  const Vec D = column.parameter(args.D);
  for (int64_t k = 0; k < steps.count; ++k) {
    const Vec u = steps.u[k];
    // grad_decay used A log2(e); ln(2) takes the factor back.
    const Vec grad_delta = (u * grads.drive[k] + 0.69314718f * grads.decay[k]) *
                           steps.slope[k];
    column.write(args.grad_delta, start + k, grad_delta);
    column.write(args.grad_u, start + k,
                 steps.delta[k] * grads.drive[k] + D * grads.y[k]);
    if (args.z.data)
      column.write(args.grad_z, start + k, gate_slope[k] * steps.y[k]);
    adjoint.grad_D += grads.y[k] * u;
    adjoint.grad_bias += grad_delta;
  }
}

template <typename T>
static void scan_group_backward(const ScanArgs& args, int64_t task,
                                float* scratch) {
  typedef Column<T, ScanArgs> Columns;
  const Group group(args.dim, kGroup, task);
  const int64_t item = group.item, first = group.first;
  const int64_t columns = group.columns, d_state = args.d_state;
  Vec* memory = (Vec*)scratch;
  ChunkGradients grads;
  grads.B = memory;
  grads.C = grads.B + kChunk * d_state;
  Vec* state = grads.C + kChunk * d_state;
  memory = state + d_state;
  Adjoint adjoints[kGroup];
  for (int64_t i = 0; i < columns; ++i, memory += 3 * d_state) {
    adjoints[i] = Adjoint{memory, memory + d_state, memory + 2 * d_state,
                          Vec{}, Vec{}};
    const Columns column(args, item, first + i);
    for (int64_t n = 0; n < d_state; ++n) {
      adjoints[i].A[n] = column.parameter(args.A, n);
      adjoints[i].grad_h[n] = adjoints[i].grad_A[n] = Vec{};
    }
  }
  for (int64_t chunk = args.chunks - 1; chunk >= 0; --chunk) {
    for (int64_t n = 0; n < 2 * kChunk * d_state; ++n) grads.B[n] = Vec{};
    for (int64_t i = 0; i < columns; ++i)
      scan_column_backward(Columns(args, item, first + i), chunk, adjoints[i],
                           grads, state);
    for (int64_t k = 0; k < kChunk; ++k) {
      const int64_t t = chunk * kChunk + k;
      if (t >= args.seqlen) break;
      const int64_t token = args.reverse ? args.seqlen - 1 - t : t;
      const int64_t row =
          ((group.index * args.batch + item) * args.seqlen + token) * d_state;
      sum_lanes(grads.B + k * d_state, d_state, args.grad_B + row);
      sum_lanes(grads.C + k * d_state, d_state, args.grad_C + row);
    }
  }
  for (int64_t i = 0; i < columns; ++i) {
    const Columns column(args, item, first + i);
    for (int64_t n = 0; n < d_state; ++n)
      column.write_gradient(args.grad_A, d_state, n, adjoints[i].grad_A[n]);
    column.write_gradient(args.grad_D, 1, 0, adjoints[i].grad_D);
    column.write_gradient(args.grad_bias, 1, 0, adjoints[i].grad_bias);
  }
}
