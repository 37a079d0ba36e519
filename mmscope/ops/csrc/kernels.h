// What the kernels of one instruction set offer, and what they are given.
// Only plain data crosses this border: code that is compiled for one
// instruction set must not share inline functions with the rest.
#pragma once
#include <cstdint>

namespace mmscope {

// Tokens between two saved states. The backward recomputes the states of one
// such chunk at a time, in a buffer that stays in the first-level cache.
constexpr int64_t kChunk = 16;
// Vectors of channels that share one task: at most so many in the scan's
// forward, always so many in a backward.
constexpr int64_t kGroup = 8;
// The same where both directions of a batch item stay in one thread's cache.
constexpr int64_t kItemGroup = 16;
// Widest vector of any variant, in floats.
constexpr int64_t kMaxLanes = 16;

enum class Scalar { kFloat, kBFloat16 };

// A (batch, seqlen, channels) tensor whose last stride is 1; strides are in
// elements.
struct View {
  const void* data = nullptr;
  int64_t batch_stride = 0;
  int64_t token_stride = 0;
};

struct ScanArgs {
  int64_t batch, seqlen, dim, d_state, chunks, group;
  bool softplus, reverse;
  View u, delta, z;          // z.data may be null
  View B, C;                 // float32 always
  const float* A;            // (d_state, dim), times log2(e)
  const float* D;            // (dim,) or null
  const float* delta_bias;   // (dim,) or null
  void* out;                 // (batch, seqlen, dim)
  float* states;             // (batch, chunks, d_state, dim) or null
  // Backward only.
  View grad;                 // gradient of out
  void* grad_u;              // (batch, seqlen, dim)
  void* grad_delta;          // (batch, seqlen, dim)
  void* grad_z;              // (batch, seqlen, dim) or null
  float* grad_A;             // (batch, d_state, dim), summed over batch later
  float* grad_D;             // (batch, dim) or null
  float* grad_bias;          // (batch, dim) or null
  float* grad_B;             // (groups, batch, seqlen, d_state)
  float* grad_C;             // (groups, batch, seqlen, d_state)
};

struct ConvArgs {
  int64_t batch, seqlen, dim, width;
  bool silu, reverse;
  View x;
  const float* weight;       // (width, dim)
  const float* bias;         // (dim,) or null
  void* out;                 // (batch, seqlen, dim)
  // Backward only.
  View grad;                 // gradient of out
  void* grad_x;              // (batch, seqlen, dim)
  float* grad_weight;        // (batch, width, dim), summed over batch later
  float* grad_bias;          // (batch, dim) or null
};

// One direction of a mixer between its two projections.
struct InnerArgs {
  int64_t batch, seqlen, dim, d_state, rank, width, group;
  bool reverse;
  View x, z;
  const float* taps;         // (dim, width)
  const float* conv_bias;    // (dim,)
  const float* x_proj;       // (rank + 2 * d_state, dim)
  const float* dt_proj;      // (dim, rank)
  const float* dt_bias;      // (dim,)
  const float* A_log;        // (dim, d_state)
  const float* D;            // (dim,)
  float* packed;             // the same, (vectors, rows, lanes)
  void* out;                 // (batch, seqlen, dim)
  float* maxima;             // (groups, batch, seqlen) or null
};

// One batch item between the kernels; entry 1 is the backward direction's.
// Tokens are in the order of the recurrence.
struct InnerItem {
  int64_t index;
  float* panels[2];          // (chunks, vectors, kChunk, lanes)
  float* selected[2];        // (seqlen, rank + 2 * d_state)
};

struct NormArgs {
  int64_t rows, dim;
  float eps;
  View x;                    // (1, rows, dim)
  const float* residual;     // (rows, dim) or null
  const float* weight;       // (dim,)
  float* stream;             // (rows, dim), x + residual
  void* out;                 // (rows, dim)
};

// The kernels of one instruction set. Every function runs one task and is
// given scratch memory, aligned to 64 bytes, of the size that goes with it.
struct Kernels {
  const char* name;
  int64_t lanes;  // channels in one vector
  // Task: `group` vectors of channels of one batch item, (batch, groups).
  void (*scan)(const ScanArgs&, Scalar, int64_t task, float* scratch);
  // Task: kGroup vectors of channels of one batch item, (batch, groups).
  void (*scan_backward)(const ScanArgs&, Scalar, int64_t task, float* scratch);
  // Task: kChunk tokens of one batch item, (batch, chunks of tokens).
  void (*conv)(const ConvArgs&, Scalar, int64_t task);
  // Task: kGroup vectors of channels of one batch item, (batch, groups).
  void (*conv_backward)(const ConvArgs&, Scalar, int64_t task,
                        float* scratch);
  // Task: one vector of channels.
  void (*inner_pack)(const InnerArgs&, int64_t task);
  // Convolution and selection. Task: kChunk tokens of the item.
  void (*inner_select)(const InnerArgs&, Scalar, const InnerItem&,
                       int64_t task);
  // Scans and gate. Task: `group` vectors of channels of the item.
  void (*inner_scan)(const InnerArgs& ahead, const InnerArgs& back, Scalar,
                     const InnerItem&, int64_t task, float* scratch);
  // Task: kChunk rows.
  void (*norm)(const NormArgs&, Scalar in, Scalar out, int64_t task);
  int64_t (*scan_scratch)(int64_t d_state);           // in floats
  int64_t (*inner_scan_scratch)(int64_t d_state);     // in floats
  int64_t (*scan_backward_scratch)(int64_t d_state);  // in floats
  int64_t (*conv_backward_scratch)(int64_t width);    // in floats
};

// Null where the compiler or the architecture cannot build the variant.
const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

}  // namespace mmscope
