// Both directions of a mixer between its two projections, for inference: what
// one batch item needs on the way stays in the second-level cache.
//
// A panel holds kChunk tokens of one vector of channels, one after the other in
// the order of the recurrence. Those of a chunk are neighbours, as the
// selection reads them.
MMSCOPE_INLINE Vec* panel(const InnerArgs& args, float* panels, int64_t chunk,
                          int64_t vector) {
  return (Vec*)panels + (chunk * ceil_div(args.dim, kLanes) + vector) * kChunk;
}

// What the selection computes of a token: the step size's projection, B and C.
MMSCOPE_INLINE int64_t selected_size(const InnerArgs& args) {
  return args.rank + 2 * args.d_state;
}

// The parameters of one vector of channels, packed one after the other.
struct Packed {
  const Vec *A, *dt_proj, *taps;
  Vec conv_bias, dt_bias, D;

  MMSCOPE_MEMBER Packed(const InnerArgs& args, int64_t vector) {
    const Vec* row = (const Vec*)args.packed + vector * rows(args);
    A = row;
    dt_proj = A + args.d_state;
    taps = dt_proj + args.rank;
    row = taps + args.width;
    conv_bias = row[0];
    dt_bias = row[1];
    D = row[2];
  }
  static MMSCOPE_MEMBER int64_t rows(const InnerArgs& args) {
    return args.d_state + args.rank + args.width + 3;
  }
};

// Turn `columns` columns of a (dim, columns) parameter into vectors.
MMSCOPE_INLINE Vec* pack_columns(const float* x, int64_t columns,
                                 int64_t channel, int count, Vec* rows) {
  for (int64_t k = 0; k < columns; ++k) rows[k] = Vec{};
  float* lanes = (float*)rows;
  for (int i = 0; i < count; ++i)
    for (int64_t k = 0; k < columns; ++k)
      lanes[k * kLanes + i] = x[(channel + i) * columns + k];
  return rows + columns;
}

static void pack_vector(const InnerArgs& args, int64_t vector) {
  const int64_t channel = vector * kLanes, left = args.dim - channel;
  const int count = left < kLanes ? (int)left : kLanes;
  Vec* row = (Vec*)args.packed + vector * Packed::rows(args);
  row = pack_columns(args.A_log, args.d_state, channel, count, row);
  // A = -exp(A_log), times log2(e): exp2 raises 2, not e, to a power, and does
  // not expect infinity.
  for (int64_t n = -args.d_state; n < 0; ++n)
    row[n] = at_least(broadcast(-1e30f), exp(row[n]) * -1.44269504f);
  row = pack_columns(args.dt_proj, args.rank, channel, count, row);
  row = pack_columns(args.taps, args.width, channel, count, row);
  row = pack_columns(args.conv_bias, 1, channel, count, row);
  row = pack_columns(args.dt_bias, 1, channel, count, row);
  pack_columns(args.D, 1, channel, count, row);
}

// As many dot products over the channels as a vector has lanes: kTokens tokens
// with kRows rows of the selection's weight.
constexpr int kRows = kLanes < 8 ? kLanes : 8, kTokens = kLanes / kRows;

// `u` points at the first of `tokens` tokens in the first panel of a chunk.
static void select_tile(const InnerArgs& args, const Vec* u, int64_t tokens,
                        int64_t first, float* selected) {
  const int64_t columns = selected_size(args);
  const float* weight[kRows];
  int64_t token[kTokens];
  // Beyond the end the last one is read again.
  for (int i = 0; i < kRows; ++i)
    weight[i] = args.x_proj +
                (first + i < columns ? first + i : columns - 1) * args.dim;
  for (int j = 0; j < kTokens; ++j) token[j] = j < tokens ? j : tokens - 1;
  Vec sums[kLanes];
  MMSCOPE_UNROLL
  for (int i = 0; i < kLanes; ++i) sums[i] = Vec{};
  int64_t channel = 0;
  for (; channel + kLanes <= args.dim; channel += kLanes) {
    Vec x[kTokens];
    for (int j = 0; j < kTokens; ++j) x[j] = u[token[j]];
    MMSCOPE_UNROLL
    for (int i = 0; i < kRows; ++i) {
      const Vec w = in_register(load(weight[i] + channel));
      MMSCOPE_UNROLL
      for (int j = 0; j < kTokens; ++j) sums[j * kRows + i] += x[j] * w;
    }
    u += kChunk;
  }
  if (channel < args.dim)
    for (int j = 0; j < kTokens; ++j)
      for (int i = 0; i < kRows; ++i)
        sums[j * kRows + i] +=
            u[token[j]] *
            load(weight[i] + channel, (int)(args.dim - channel));
  fold_rows<kLanes / 2>(sums);
  for (int64_t j = 0; j < kTokens && j < tokens; ++j)
    for (int64_t i = 0; i < kRows && first + i < columns; ++i)
      selected[j * columns + first + i] = sums[0][j * kRows + i];
}

// Convolution and selection of kChunk tokens.
template <typename T>
static void select_chunk(const InnerArgs& args, const InnerItem& item,
                         int64_t chunk) {
  const int64_t start = chunk * kChunk, left = args.seqlen - start;
  const int64_t count = left < kChunk ? left : kChunk;
  const int64_t columns = selected_size(args);
  float* panels = item.panels[args.reverse];
  float* selected = item.selected[args.reverse] + start * columns;
  for (int64_t v = 0; v < ceil_div(args.dim, kLanes); ++v) {
    const Column<T, InnerArgs> column(args, item.index, v);
    const Packed packed(args, v);
    Vec* u = panel(args, panels, chunk, v);
    convolve(
        column, [&](int64_t k) { return packed.taps[k]; }, packed.conv_bias,
        start, start + count,
        [&](int64_t t, Vec y) { u[t - start] = y * sigmoid(y); });
  }
  for (int64_t first = 0; first < columns; first += kRows)
    for (int64_t t = 0; t < count; t += kTokens)
      select_tile(args, panel(args, panels, chunk, 0) + t, count - t, first,
                  selected + t * columns);
}

// The steps of a chunk, as read_steps finds them in tensors of their own.
MMSCOPE_INLINE void select_steps(const InnerArgs& args, const Packed& packed,
                                 const Vec* u, const float* selected,
                                 int64_t count, Steps* steps) {
  constexpr int kTile = 8;
  const int64_t columns = selected_size(args);
  steps->count = count;
  for (int64_t k = 0; k < count; k += kTile) {
    const float* dt[kTile];
    Vec delta[kTile];
    for (int i = 0; i < kTile; ++i) {
      dt[i] = selected + (k + i < count ? k + i : count - 1) * columns;
      delta[i] = packed.dt_bias;
    }
    for (int64_t r = 0; r < args.rank; ++r) {
      const Vec weight = packed.dt_proj[r];
      MMSCOPE_UNROLL
      for (int i = 0; i < kTile; ++i) delta[i] += weight * dt[i][r];
    }
    for (int i = 0; i < kTile; ++i) steps->delta[k + i] = delta[i];
  }
  for (int64_t k = 0; k < count; ++k) {
    Vec slope;
    steps->delta[k] = softplus(steps->delta[k], &slope);
    steps->drive[k] = steps->delta[k] * u[k];
    steps->y[k] = packed.D * u[k];
    steps->B[k] = selected + k * columns + args.rank;
    steps->C[k] = steps->B[k] + args.d_state;
  }
}

// Each lane's larger value; a NaN stays.
MMSCOPE_INLINE Vec larger(Vec best, Vec x) {
  return (x > best) | (x != x) ? x : best;
}

// The maxima over the channels of a group, token by token.
static void write_maxima(const InnerArgs& args, int64_t start,
                         const Vec* best, float* maxima) {
  for (int64_t k = 0; k < kChunk && start + k < args.seqlen; ++k) {
    float most = best[k][0];
    for (int i = 1; i < kLanes; ++i) {
      const float x = best[k][i];
      if (x > most || x != x) most = x;
    }
    const int64_t t = start + k;
    maxima[args.reverse ? args.seqlen - 1 - t : t] = most;
  }
}

// The first direction leaves its output in its panel, where the second finds
// it: the mean of both is gated and written.
template <typename T>
MMSCOPE_INLINE void finish_steps(const Column<T, InnerArgs>& column,
                                 const Steps& steps, int64_t start,
                                 int64_t vector, float* ahead) {
  const InnerArgs& args = column.args;
  for (int64_t k = 0; k < steps.count; ++k) {
    const int64_t token = column.token(start + k);
    Vec& y = panel(args, ahead, token / kChunk, vector)[token % kChunk];
    if (!args.reverse) {
      y = steps.y[k];
      continue;
    }
    const Vec z = column.read(args.z, start + k);
    const Vec mean = 0.5f * (y + steps.y[k]);
    column.write(args.out, start + k, mean * (z * sigmoid(z)));
  }
}

// One direction of a group of vectors of channels.
template <typename T>
static void scan_panels(const InnerArgs& args, const InnerItem& item,
                        int64_t first, int64_t vectors, float* maxima,
                        Vec* states) {
  const int64_t columns = selected_size(args);
  float* panels = item.panels[args.reverse];
  const float* selected = item.selected[args.reverse];
  for (int64_t i = 0; i < vectors * args.d_state; ++i) states[i] = Vec{};
  for (int64_t start = 0; start < args.seqlen; start += kChunk) {
    const int64_t left = args.seqlen - start;
    Vec best[kChunk];
    for (int64_t k = 0; k < kChunk; ++k) best[k] = broadcast(kLowest);
    for (int64_t i = 0; i < vectors; ++i) {
      const int64_t v = first + i;
      const Column<T, InnerArgs> column(args, item.index, v);
      const Packed packed(args, v);
      const Vec* u = panel(args, panels, start / kChunk, v);
      Steps steps;
      select_steps(args, packed, u, selected + start * columns,
                   left < kChunk ? left : kChunk, &steps);
      if (args.reverse) column.prefetch(args.z, start + kChunk);
      advance(steps, args.d_state, packed.A, states + i * args.d_state);
      if (maxima)
        for (int64_t k = 0; k < steps.count; ++k)
          best[k] = larger(best[k], column.or_lowest(steps.y[k]));
      finish_steps(column, steps, start, v, item.panels[0]);
    }
    if (maxima) write_maxima(args, start, best, maxima);
  }
}

template <typename T>
static void scan_item(const InnerArgs& ahead, const InnerArgs& back,
                      const InnerItem& item, int64_t group, float* scratch) {
  const int64_t first = group * ahead.group;
  const int64_t left = ceil_div(ahead.dim, kLanes) - first;
  const int64_t vectors = left < ahead.group ? left : ahead.group;
  const auto scan = [&](const InnerArgs& args) {
    float* maxima = args.maxima;
    if (maxima) maxima += (group * args.batch + item.index) * args.seqlen;
    scan_panels<T>(args, item, first, vectors, maxima, (Vec*)scratch);
  };
  scan(ahead);
  scan(back);
}
