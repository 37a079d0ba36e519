// A vector of neighbouring channels, and the maths that the kernels need.

typedef float Vec __attribute__((vector_size(kLanes * 4), may_alias));
typedef int32_t Int __attribute__((vector_size(kLanes * 4), may_alias));
typedef uint32_t Uint __attribute__((vector_size(kLanes * 4), may_alias));
typedef uint16_t Half __attribute__((vector_size(kLanes * 2), may_alias));

struct BFloat16 {
  uint16_t bits;
};

// Below every finite number.
constexpr float kLowest = -__builtin_inff();

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

// A value that is used twice: compilers fold its load into both uses, and the
// load ports, not the multipliers, are then what a product waits for.
MMSCOPE_INLINE Vec in_register(Vec x) {
#if MMSCOPE_LANES == 16
  __asm__("" : "+v"(x));
#endif
  return x;
}

template <typename T>
MMSCOPE_INLINE Vec load_or_zero(const T* p, int count) {
  return p ? load(p, count) : Vec{};
}


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

// 2^x: the polynomial covers [-0.5, 0.5] (minimax, degree 5, relative error
// 1e-7). It is exact at 0 and its error is below 5e-7 |x|, so that decays close
// to 1 do not drift over many tokens. Underflows to 0, overflows to infinity,
// keeps NaN.
MMSCOPE_INLINE Vec exp2(Vec x) {
#if MMSCOPE_LANES != 16
  x = at_most(broadcast(128.0f), at_least(broadcast(-127.0f), x));
#endif
  // Adding 1.5 * 2^23 rounds to an integer that stands in the lowest bits.
  const Vec shifted = x + 12582912.0f;
  const Vec whole = shifted - 12582912.0f;
  const Vec r = x - whole;
  Vec p = broadcast(1.326656318e-3f);
  p = p * r + 9.670320898e-3f;
  p = p * r + 5.550712720e-2f;
  p = p * r + 2.402226776e-1f;
  p = p * r + 6.931470037e-1f;
  p = p * r + 1.0f;
#if MMSCOPE_LANES == 16
  return (Vec)_mm512_scalef_ps((__m512)p, (__m512)whole);
#else
  return (Vec)((Int)p + ((Int)shifted << 23));
#endif
}

MMSCOPE_INLINE Vec exp(Vec x) { return exp2(x * 1.44269504f); }

// 1 / x to one unit in the last place, for finite x from 1e-38 to 1e38.
MMSCOPE_INLINE Vec inverse(Vec x) {
#if MMSCOPE_LANES == 16
  // A guess of 14 bits and a step of Newton's take a fifth of a division.
  const Vec guess = (Vec)_mm512_rcp14_ps((__m512)x);
  return guess * (2.0f - x * guess);
#else
  return 1.0f / x;
#endif
}

MMSCOPE_INLINE Vec sigmoid(Vec x) {
  return inverse(1.0f + exp2(at_most(broadcast(126.0f), x * -1.44269504f)));
}

// softplus(x) and its derivative, the sigmoid, from one exponential. The
// polynomial is log(1 + e) / e on [0, 1] (minimax, degree 8, relative error
// 3e-8) and keeps its relative precision as e -> 0.
MMSCOPE_INLINE Vec softplus(Vec x, Vec* slope) {
  const Vec e = exp((Vec)((Uint)x | 0x80000000u));
  Vec p = broadcast(5.364822689e-3f);
  p = p * e - 3.006578609e-2f;
  p = p * e + 7.920452952e-2f;
  p = p * e - 1.375380158e-1f;
  p = p * e + 1.915365458e-1f;
  p = p * e - 2.485716343e-1f;
  p = p * e + 3.332132399e-1f;
  p = p * e - 4.999964833e-1f;
  p = p * e + 1.0f;
  const Vec half = inverse(1.0f + e);
  *slope = x < 0.0f ? e * half : half;
  return at_least(Vec{}, x) + e * p;
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
