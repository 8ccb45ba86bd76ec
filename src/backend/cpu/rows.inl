// Row kernels: the tile's store, norms, RoPE, softmax. The order of sums over lanes depends only on the row's length.
namespace {

// Copies of the arguments; otherwise the compiler reads them again after every store.
template <Activation kActivation, bool kWhole, Type kOut>
void store_rows(const StoreArgs& s) {
  const float* scale = s.scale;
  const float* bias = s.bias;
  const float* const* gate = s.gate;
  const void* residual = s.residual;
  const Type residual_type = s.residual_type;
  void* out = s.out;
  const long rows = s.rows;
  const long stride = s.stride;
  for (long c = 0; c < s.columns; c += Vec::kLanes) {
    const long left = kWhole ? Vec::kLanes : s.columns - c;
    const Vec factor = scale ? load_f32(scale, c, left) : Vec::zero();
    const Vec offset = bias ? load_f32(bias, c, left) : Vec::zero();
    const float* acc = s.acc + c;
    for (long r = 0, at = c; r < rows; ++r, at += stride, acc += LA_TILE_COLUMNS) {
      Vec x = Vec::load(acc);
      if (scale) x = x * factor;
      if (bias) x = x + offset;
      x = activated<kActivation>(x);
      if (gate) x = x * load_f32(gate[r], c, left);
      if (residual) x = x + load_vec(residual, residual_type, at, left);
      store_vec(x, out, kOut, at, left);
    }
  }
}

void store(const StoreArgs& s) {
  with_activation(s.activation, [&](auto act) {
    constexpr Activation kActivation = act.value;
    bool whole = s.columns % Vec::kLanes == 0;
    bool as_f32 = s.out_type == Type::kF32;
    if (whole && as_f32) return store_rows<kActivation, true, Type::kF32>(s);
    if (as_f32) return store_rows<kActivation, false, Type::kF32>(s);
    if (whole) return store_rows<kActivation, true, Type::kBF16>(s);
    store_rows<kActivation, false, Type::kBF16>(s);
  });
}

inline float sum_of(Row x, long n) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) sum = sum + load_vec(x.data, x.type, i, n - i);
  return sum.sum();
}
inline Vec squares_of(Row x, long n) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = load_vec(x.data, x.type, i, n - i);
    sum = Vec::fma(v, v, sum);
  }
  return sum;
}
// Squared differences from the mean. Lanes after the row's end add nothing.
inline float deviations_of(Row x, long n, float mean) {
  Vec sum = Vec::zero(), m = Vec::set(mean);
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec d = load_vec(x.data, x.type, i, n - i) - m;
    if (n - i < Vec::kLanes) d = Vec::first(d, n - i);
    sum = Vec::fma(d, d, sum);
  }
  return sum.sum();
}

void layer_norm(Row x, int64_t n, float eps, const float* weight, const float* bias, const float* shift,
                const float* scale, void* out, Type out_type) {
  float mean = sum_of(x, n) / static_cast<float>(n);
  float inverse = 1.0f / __builtin_sqrtf(deviations_of(x, n, mean) / static_cast<float>(n) + eps);
  for (long i = 0; i < n; i += Vec::kLanes) {
    long left = n - i;
    Vec y = (load_vec(x.data, x.type, i, left) - Vec::set(mean)) * Vec::set(inverse);
    if (weight) y = y * load_f32(weight, i, left);
    if (bias) y = y + load_f32(bias, i, left);
    if (scale) y = Vec::fma(y, Vec::set(1.0f) + load_f32(scale, i, left), load_f32(shift, i, left));
    store_vec(y, out, out_type, i, left);
  }
}

void rms_norm(Row x, int64_t n, float eps, const float* gain, void* out, Type out_type) {
  Vec factor = Vec::set(1.0f / __builtin_sqrtf(squares_of(x, n).sum() / static_cast<float>(n) + eps));
  for (long i = 0; i < n; i += Vec::kLanes)
    store_vec(load_vec(x.data, x.type, i, n - i) * factor * load_f32(gain, i, n - i), out, out_type, i, n - i);
}

// Rows of a small VAE are one or two vectors, and there are millions of them: sizes are compile-time constants if
// possible.
template <Type kIn, Type kOut, Activation kActivation>
void channel_norm_rows(const char* x, int64_t rows, int64_t n, const float* gain, char* out) {
  const Vec root = Vec::set(__builtin_sqrtf(static_cast<float>(n))), tiny = Vec::set(1e-24f);
  for (long r = 0; r < rows; ++r, x += n * (kIn == Type::kF32 ? 4 : 2), out += n * (kOut == Type::kF32 ? 4 : 2)) {
    Vec factor = root * Vec::reciprocal_root(Vec::max(tiny, squares_of({x, kIn}, n).acc()));
    for (long i = 0; i < n; i += Vec::kLanes) {
      Vec y = load_vec(x, kIn, i, n - i) * factor * load_f32(gain, i, n - i);
      store_vec(activated<kActivation>(y), out, kOut, i, n - i);
    }
  }
}
// Rows of one vector, or half of one: then two rows at once.
template <Type kIn, Type kOut, Activation kActivation, bool kHalf>
void channel_norm_vectors(const char* x, int64_t rows, const float* gain, char* out) {
  constexpr long kWidth = kHalf ? Vec::kLanes / 2 : Vec::kLanes;
  const Vec root = Vec::set(__builtin_sqrtf(static_cast<float>(kWidth))), tiny = Vec::set(1e-24f);
  float twice[Vec::kLanes];
  for (long i = 0; i < Vec::kLanes; ++i) twice[i] = gain[i % kWidth];
  const Vec gains = Vec::load(twice);
  for (long i = 0; i < rows * kWidth; i += Vec::kLanes) {
    Vec v = load_vec(x, kIn, i, rows * kWidth - i), squares = v * v;
    Vec factor = root * Vec::reciprocal_root(Vec::max(tiny, kHalf ? squares.half_sums() : squares.acc()));
    store_vec(activated<kActivation>(v * factor * gains), out, kOut, i, rows * kWidth - i);
  }
}
template <Type kIn, Type kOut>
void channel_norm_of(const void* x, int64_t rows, int64_t n, const float* gain, Activation act, void* out) {
  const char* from = static_cast<const char*>(x);
  char* to = static_cast<char*>(out);
  with_activation(act, [&](auto a) {
    if (n == Vec::kLanes / 2) return channel_norm_vectors<kIn, kOut, a.value, true>(from, rows, gain, to);
    if (n == Vec::kLanes) return channel_norm_vectors<kIn, kOut, a.value, false>(from, rows, gain, to);
    channel_norm_rows<kIn, kOut, a.value>(from, rows, n, gain, to);
  });
}

void channel_norm(Row x, int64_t rows, int64_t n, const float* gain, Activation act, void* out, Type out_type) {
  constexpr Type kF32 = Type::kF32;
  constexpr Type kBF16 = Type::kBF16;
  using Norm = void (*)(const void*, int64_t, int64_t, const float*, Activation, void*);
  static_assert(static_cast<int>(kF32) == 0 && static_cast<int>(kBF16) == 1);
  constexpr Norm kByTypes[2][2] = {{channel_norm_of<kF32, kF32>, channel_norm_of<kF32, kBF16>},
                                   {channel_norm_of<kBF16, kF32>, channel_norm_of<kBF16, kBF16>}};
  kByTypes[static_cast<int>(x.type)][static_cast<int>(out_type)](x.data, rows, n, gain, act, out);
}

void rope(Row x, const float* cos_sin, int64_t heads, int64_t pairs, void* out, Type out_type) {
  for (long h = 0; h < heads; ++h) {
    for (long i = 0, n = 2 * pairs; i < n; i += Vec::kLanes) {
      Vec rotated = Vec::rotated(load_vec(x.data, x.type, h * n + i, n - i), load_f32(cos_sin, i, n - i));
      store_vec(rotated, out, out_type, h * n + i, n - i);
    }
  }
}

inline float max_of(Row x, long n) {
  const Vec least = Vec::set(-__builtin_inff());
  Vec largest[4] = {least, least, least, least};  // four chains hide the latency
  long i = 0;
  for (; i + 4 * Vec::kLanes <= n; i += 4 * Vec::kLanes) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c)
      largest[c] = Vec::max(largest[c], load_vec(x.data, x.type, i + c * Vec::kLanes, Vec::kLanes));
  }
  float best = Vec::max(Vec::max(largest[0], largest[1]), Vec::max(largest[2], largest[3])).largest();
  for (; i < n; ++i) {
    float one = x.type == Type::kF32 ? F32::at(x.data, i) : BF16::at(x.data, i);
    best = one > best ? one : best;
  }
  return best;
}

// out = exp(x - m). Returns the sum of the stored values.
inline float exp_row(Row x, long n, float m, void* out, Type out_type) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec p = exp(load_vec(x.data, x.type, i, n - i) - Vec::set(m));
    store_vec(p, out, out_type, i, n - i);
    sum = sum + load_vec(out, out_type, i, n - i);  // zeros after the end
  }
  return sum.sum();
}

void add(Row x, Row y, float y_factor, int64_t n, void* out, Type out_type) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec sum = load_vec(x.data, x.type, i, n - i) + Vec::set(y_factor) * load_vec(y.data, y.type, i, n - i);
    store_vec(sum, out, out_type, i, n - i);
  }
}

void multiply(Row x, Row y, int64_t n, void* out, Type out_type) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    store_vec(load_vec(x.data, x.type, i, n - i) * load_vec(y.data, y.type, i, n - i), out, out_type, i, n - i);
  }
}

void widen(const void* bf16s, int64_t n, float* out) {
  const U16* x = static_cast<const U16*>(bf16s);
  long i = 0;
  for (; i + Vec::kLanes <= n; i += Vec::kLanes) Vec::load_bf16(x + i).store(out + i);
  for (; i < n; ++i) out[i] = BF16::at(x, i);
}

void activate(Row x, int64_t n, Activation act, void* out, Type out_type) {
  with_activation(act, [&](auto a) {
    for (long i = 0; i < n; i += Vec::kLanes)
      store_vec(activated<a.value>(load_vec(x.data, x.type, i, n - i)), out, out_type, i, n - i);
  });
}

// s = s * scale + bias
inline void scale_scores(float* s, int64_t n, float scale, const float* bias) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = load_f32(s, i, n - i) * Vec::set(scale);
    if (bias) v = v + load_f32(bias, i, n - i);
    store_vec(v, s, Type::kF32, i, n - i);
  }
}

// 2^t for t <= 0, accurate enough for bf16: a polynomial of the fourth degree (minimax, 3e-6).
inline Vec coarse_exp2(Vec t) {
  t = Vec::max(Vec::set(-125.0f), t);  // in this order NaN stays NaN
  Vec n = Vec::round(t), f = t - n;
  Vec p = Vec::set(9.570101947e-3f);
  p = Vec::fma(p, f, Vec::set(5.591786159e-2f));
  p = Vec::fma(p, f, Vec::set(2.402474484e-1f));
  p = Vec::fma(p, f, Vec::set(6.931218146e-1f));
  p = Vec::fma(p, f, Vec::set(9.999992614e-1f));
  return Vec::scale2_normal(p, n);
}

// out = exp(x * factor - m) as bf16. Returns the sum of the stored values.
inline float coarse_exp_row(const float* x, long n, float factor, float m, U16* out) {
  Vec scale = Vec::set(factor * kLog2E), shift = Vec::set(-m * kLog2E), sum = Vec::zero();
  long i = 0;
  for (; i + 2 * Vec::kLanes <= n; i += 2 * Vec::kLanes) {
    Vec a = coarse_exp2(Vec::fma(Vec::load(x + i), scale, shift));
    Vec b = coarse_exp2(Vec::fma(Vec::load(x + i + Vec::kLanes), scale, shift));
    Vec::store_and_sum(a, b, out + i, sum);
  }
  for (; i < n; i += Vec::kLanes) {
    store_vec(coarse_exp2(Vec::fma(load_f32(x, i, n - i), scale, shift)), out, Type::kBF16, i, n - i);
    sum = sum + load_vec(out, Type::kBF16, i, n - i);  // zeros after the end
  }
  return sum.sum();
}

float online_softmax(float* s, int64_t n, float scale, const float* bias, float old_max, float* new_max, void* p,
                     Type p_type) {
  bool as_they_are = p_type == Type::kBF16 && !bias && scale > 0;  // scaling does not change which score is largest
  if (!as_they_are) scale_scores(s, n, scale, bias);
  float factor = as_they_are ? scale : 1.0f;
  float m = max_of({s, Type::kF32}, n) * factor;
  *new_max = m > old_max ? m : old_max;
  if (p_type == Type::kBF16) return coarse_exp_row(s, n, factor, *new_max, static_cast<U16*>(p));
  return exp_row({s, Type::kF32}, n, *new_max, p, p_type);
}

void rescale(float* o, float factor, int64_t n) {
  for (long i = 0; i < n; i += Vec::kLanes)
    store_vec(load_f32(o, i, n - i) * Vec::set(factor), o, Type::kF32, i, n - i);
}

// All kernels with f32 multiply-adds.
Kernels fma_kernels(const char* name) {
  Kernels k;
  k.name = name;
  k.columns = LA_TILE_COLUMNS;
  k.lanes = Vec::kLanes;
  k.tile[0][0] = tile<F32, false>;
  k.tile[0][1] = tile<F32, true>;
  k.tile[1][0] = tile<BF16, false>;
  k.tile[1][1] = tile<BF16, true>;
  k.small_output[0] = small_output<Vec::fma>;
  k.store = store;
  k.unpack_i8 = unpack_i8;
  k.unpack_f8 = unpack_f8;
  k.unpack_q4 = unpack_q4;
  k.decode_i8 = decode<Vec::from_i8>;
  k.decode_f8 = decode<Vec::from_e4m3>;
  k.transpose = transpose;
  k.zip = zip;
  k.layer_norm = layer_norm;
  k.rms_norm = rms_norm;
  k.channel_norm = channel_norm;
  k.rope = rope;
  k.add = add;
  k.multiply = multiply;
  k.widen = widen;
  k.activate = activate;
  k.online_softmax = online_softmax;
  k.rescale = rescale;
  return k;
}

}  // namespace
