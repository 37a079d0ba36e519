// Where a kernel finds the channels and tokens it works on.

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
  MMSCOPE_MEMBER Vec read_float(const float* x, int64_t t) const {
    return load(x + (item * args.seqlen + token(t)) * args.dim + channel,
                count);
  }
  MMSCOPE_MEMBER void write_float(float* x, int64_t t, Vec value) const {
    store(x + (item * args.seqlen + token(t)) * args.dim + channel, value,
          count);
  }
  // The same, where lanes beyond the last channel never are a maximum.
  MMSCOPE_MEMBER Vec or_lowest(Vec x) const {
    for (int i = count; i < kLanes; ++i) x[i] = kLowest;
    return x;
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
