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

typedef float Vec __attribute__((vector_size(kLanes * 4), may_alias));
typedef int32_t Int __attribute__((vector_size(kLanes * 4), may_alias));
typedef uint32_t Uint __attribute__((vector_size(kLanes * 4), may_alias));
typedef uint16_t Half __attribute__((vector_size(kLanes * 2), may_alias));

struct BFloat16 {
  uint16_t bits;
};

// ---------------------------------------------------------------- vectors

MMSCOPE_INLINE Vec broadcast(float x) { return x - Vec{}; }

MMSCOPE_INLINE Vec widen(Half x) {
  return (Vec)(__builtin_convertvector(x, Uint) << 16);
}

MMSCOPE_INLINE Half narrow(Vec x) {
  const Uint bits = (Uint)x;
  // Round to nearest, ties to even; a NaN keeps its upper half, made quiet.
  const Uint rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Uint quiet = (bits >> 16) | 0x40;
  const Int is_nan = x != x;
  return __builtin_convertvector(
      ((Uint)is_nan & quiet) | (~(Uint)is_nan & rounded), Half);
}

MMSCOPE_INLINE Vec load(const float* p) {
  Vec x;
  __builtin_memcpy(&x, p, sizeof(x));
  return x;
}

MMSCOPE_INLINE Vec load(const BFloat16* p) {
  Half x;
  __builtin_memcpy(&x, p, sizeof(x));
  return widen(x);
}

MMSCOPE_INLINE void store(float* p, Vec x) {
  __builtin_memcpy(p, &x, sizeof(x));
}

MMSCOPE_INLINE void store(BFloat16* p, Vec x) {
  const Half half = narrow(x);
  __builtin_memcpy(p, &half, sizeof(half));
}

// The first `count` elements; the other lanes are zero.
template <typename T>
MMSCOPE_INLINE Vec load(const T* p, int count) {
  if (count == kLanes) return load(p);
  T padded[kLanes] = {};
  for (int i = 0; i < count; ++i) padded[i] = p[i];
  return load(padded);
}

template <typename T>
MMSCOPE_INLINE void store(T* p, Vec x, int count) {
  if (count == kLanes) return store(p, x);
  T padded[kLanes];
  store(padded, x);
  for (int i = 0; i < count; ++i) p[i] = padded[i];
}

template <typename T>
MMSCOPE_INLINE Vec load_or_zero(const T* p, int count) {
  return p ? load(p, count) : Vec{};
}

// ------------------------------------------------------------------- maths

// Compilers make two or three instructions of `x < low ? low : x`. Of these
// instructions the second operand wins where one is NaN.
#if MMSCOPE_LANES == 16
MMSCOPE_INLINE Vec at_least(Vec low, Vec x) {
  return (Vec)_mm512_max_ps((__m512)low, (__m512)x);
}
MMSCOPE_INLINE Vec at_most(Vec high, Vec x) {
  return (Vec)_mm512_min_ps((__m512)high, (__m512)x);
}
#elif MMSCOPE_LANES == 8
MMSCOPE_INLINE Vec at_least(Vec low, Vec x) {
  return (Vec)_mm256_max_ps((__m256)low, (__m256)x);
}
MMSCOPE_INLINE Vec at_most(Vec high, Vec x) {
  return (Vec)_mm256_min_ps((__m256)high, (__m256)x);
}
#elif defined(__SSE2__)
MMSCOPE_INLINE Vec at_least(Vec low, Vec x) {
  return (Vec)_mm_max_ps((__m128)low, (__m128)x);
}
MMSCOPE_INLINE Vec at_most(Vec high, Vec x) {
  return (Vec)_mm_min_ps((__m128)high, (__m128)x);
}
#else
MMSCOPE_INLINE Vec at_least(Vec low, Vec x) { return x < low ? low : x; }
MMSCOPE_INLINE Vec at_most(Vec high, Vec x) { return x > high ? high : x; }
#endif

// 2^x: the polynomial (minimax, degree 6, relative error 2e-9) covers
// [-0.5, 0.5]. Underflows to 0, overflows to infinity, keeps NaN.
MMSCOPE_INLINE Vec exp2(Vec x) {
#if MMSCOPE_LANES != 16
  x = at_most(broadcast(128.0f), at_least(broadcast(-127.0f), x));
#endif
  // Adding 1.5 * 2^23 rounds to an integer that stands in the lowest bits.
  const Vec shifted = x + 12582912.0f;
  const Vec whole = shifted - 12582912.0f;
  const Vec r = x - whole;
  Vec p = broadcast(1.535336202e-4f);
  p = p * r + 1.339887448e-3f;
  p = p * r + 9.618437358e-3f;
  p = p * r + 5.550332471e-2f;
  p = p * r + 2.402264791e-1f;
  p = p * r + 6.931472029e-1f;
  p = p * r + 1.0f;
#if MMSCOPE_LANES == 16
  return (Vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
  return (Vec)((Int)p + ((Int)shifted << 23));
#endif
}

MMSCOPE_INLINE Vec exp(Vec x) { return exp2(x * 1.44269504f); }

MMSCOPE_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// softplus(x) and its derivative, the sigmoid, from one exponential.
// log(1 + e) = 2 atanh(e / (2 + e)) keeps its relative precision as e -> 0.
MMSCOPE_INLINE Vec softplus(Vec x, Vec* slope) {
  const Vec e = exp(x < 0.0f ? x : -x);
  const Vec s = e / (e + 2.0f);
  const Vec q = s * s;
  Vec p = broadcast(1.0f / 15);
  p = p * q + 1.0f / 13;
  p = p * q + 1.0f / 11;
  p = p * q + 1.0f / 9;
  p = p * q + 1.0f / 7;
  p = p * q + 1.0f / 5;
  p = p * q + 1.0f / 3;
  p = p * q + 1.0f;
  const Vec inverse = 1.0f / (1.0f + e);
  *slope = x < 0.0f ? e * inverse : inverse;
  return (x < 0.0f ? Vec{} : x) + 2.0f * s * p;
}

// sums[n] = sum of the lanes of rows[n] for kLanes rows: a transposing tree,
// three instructions a row where a sum of its own would take eight.
#ifdef __clang__
template <int S>
MMSCOPE_INLINE Vec fold(Vec a, Vec b) {
  Vec first, second;
  for (int j = 0; j < kLanes; ++j) {
    first[j] = (j & S) ? b[j] : a[j];
    second[j] = (j & S) ? b[j ^ S] : a[j ^ S];
  }
  return first + second;
}
#else
template <int S>
MMSCOPE_INLINE Vec fold(Vec a, Vec b) {
  Int keep, partner;
  for (int j = 0; j < kLanes; ++j) {
    keep[j] = (j & S) ? kLanes + j : j;
    partner[j] = keep[j] ^ S;
  }
  return __builtin_shuffle(a, b, keep) + __builtin_shuffle(a, b, partner);
}
#endif

template <int S>
MMSCOPE_INLINE void fold_rows(Vec* rows) {
  for (int i = 0; i < S; ++i) rows[i] = fold<S>(rows[i], rows[i + S]);
  if constexpr (S > 1) fold_rows<S / 2>(rows);
}

static void sum_lanes(const Vec* rows, int64_t count, float* sums) {
  int64_t n = 0;
  for (; n + kLanes <= count; n += kLanes) {
    Vec tile[kLanes];
    for (int i = 0; i < kLanes; ++i) tile[i] = rows[n + i];
    fold_rows<kLanes / 2>(tile);
    store(sums + n, tile[0]);
  }
  for (; n < count; ++n) {
    float sum = 0;
    for (int i = 0; i < kLanes; ++i) sum += rows[n][i];
    sums[n] = sum;
  }
}

// ----------------------------------------------------------------- columns

// One vector of channels of one batch item, read step by step.
template <typename T, typename Args>
struct Column {
  const Args& args;
  int64_t item, channel;
  int count;

  MMSCOPE_MEMBER Column(const Args& a, int64_t batch_item, int64_t vector)
      : args(a), item(batch_item), channel(vector * kLanes) {
    const int64_t left = a.dim - channel;
    count = left < kLanes ? (int)left : kLanes;
  }
  // The token that comes as step `t` of the recurrence.
  MMSCOPE_MEMBER int64_t token(int64_t t) const {
    return args.reverse ? args.seqlen - 1 - t : t;
  }
  MMSCOPE_MEMBER Vec read(const View& x, int64_t t) const {
    return load((const T*)x.data + item * x.batch_stride +
                    token(t) * x.token_stride + channel,
                count);
  }
  // A column touches one cache line per token, far apart: the processor does
  // not see the pattern, so the next chunk is asked for ahead of its time.
  MMSCOPE_MEMBER void prefetch(const View& x, int64_t start) const {
    if (!x.data || start < 0) return;
    const int64_t end =
        start + kChunk < args.seqlen ? start + kChunk : args.seqlen;
    for (int64_t t = start; t < end; ++t)
      __builtin_prefetch((const T*)x.data + item * x.batch_stride +
                         token(t) * x.token_stride + channel);
  }
  MMSCOPE_MEMBER void write(void* x, int64_t t, Vec value) const {
    store((T*)x + (item * args.seqlen + token(t)) * args.dim + channel, value,
          count);
  }
  // A row of a (rows, dim) parameter, zeros where there is no parameter.
  MMSCOPE_MEMBER Vec parameter(const float* x, int64_t row = 0) const {
    return load_or_zero(x ? x + row * args.dim + channel : nullptr, count);
  }
  // A row of a (batch, rows, dim) gradient.
  MMSCOPE_MEMBER void write_gradient(float* x, int64_t rows, int64_t row,
                                     Vec value) const {
    if (x) store(x + (item * rows + row) * args.dim + channel, value, count);
  }
};

MMSCOPE_INLINE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Neighbouring columns that share a task: their tokens are neighbours in
// memory, and the backward adds their gradients of B and C.
struct Group {
  int64_t item, index, first, columns;

  MMSCOPE_MEMBER Group(int64_t dim, int64_t size, int64_t task) {
    const int64_t vectors = ceil_div(dim, kLanes);
    const int64_t groups = ceil_div(vectors, size);
    item = task / groups;
    index = task % groups;
    first = index * size;
    columns = vectors - first < size ? vectors - first : size;
  }
};

// -------------------------------------------------------------------- scan

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
  int64_t n = 0;
  for (; n + kStates <= d_state; n += kStates)
    advance<kStates>(steps, n, A, h);
  for (; n < d_state; ++n) advance<1>(steps, n, A, h);
  for (int64_t k = 0; k < steps.count; ++k) {
    Vec y = steps.y[k];
    if (args.z.data) {
      const Vec z = column.read(args.z, start + k);
      y *= z * sigmoid(z);
    }
    column.write(args.out, start + k, y);
  }
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

// ----------------------------------------------------------- scan backward

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

// ------------------------------------------------------------- convolution

// W is the width when it is known at compile time, else 0.
template <typename T, int W>
static void conv_column(const ConvArgs& args, int64_t item, int64_t vector,
                        int64_t start, int64_t end) {
  const Column<T, ConvArgs> column(args, item, vector);
  const int64_t width = W ? W : args.width;
  const Vec bias = column.parameter(args.bias);
  Vec weight[W ? W : 1], window[W ? W : 1];
  if (W) {
    for (int64_t k = 0; k < W; ++k) {
      weight[k] = column.parameter(args.weight, k);
      const int64_t t = start - W + k;
      window[k] = t < 0 ? Vec{} : column.read(args.x, t);
    }
  }
  for (int64_t t = start; t < end; ++t) {
    Vec y = bias;
    if (W) {
      MMSCOPE_UNROLL
      for (int k = 0; k + 1 < W; ++k) window[k] = window[k + 1];
      window[W ? W - 1 : 0] = column.read(args.x, t);
      MMSCOPE_UNROLL
      for (int k = 0; k < W; ++k) y += weight[k] * window[k];
    } else {
      for (int64_t k = t < width - 1 ? width - 1 - t : 0; k < width; ++k)
        y += column.parameter(args.weight, k) *
             column.read(args.x, t - width + 1 + k);
    }
    column.write(args.out, t, args.silu ? y * sigmoid(y) : y);
  }
}

template <typename T>
static void conv_tokens(const ConvArgs& args, int64_t task) {
  const int64_t chunks = ceil_div(args.seqlen, kChunk);
  const int64_t item = task / chunks, start = task % chunks * kChunk;
  const int64_t end =
      start + kChunk < args.seqlen ? start + kChunk : args.seqlen;
  const int64_t vectors = ceil_div(args.dim, kLanes);
  for (int64_t v = 0; v < vectors; ++v) {
    if (args.width == 4)
      conv_column<T, 4>(args, item, v, start, end);
    else
      conv_column<T, 0>(args, item, v, start, end);
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

// ------------------------------------------------------------------- table

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

static int64_t scan_scratch(int64_t d_state) {
  return 2 * kGroup * d_state * kLanes;
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
    MMSCOPE_TEXT(MMSCOPE_ISA), kLanes, scan, scan_backward, conv,
    conv_backward, scan_scratch, scan_backward_scratch, conv_backward_scratch,
};

}  // namespace MMSCOPE_ISA

#define MMSCOPE_GETTER_(isa) isa##_kernels
#define MMSCOPE_GETTER(isa) MMSCOPE_GETTER_(isa)

const Kernels* MMSCOPE_GETTER(MMSCOPE_ISA)() {
  return &MMSCOPE_ISA::kTable;
}

}  // namespace mmscope
