// Everything that works row by row: activations, the tile's store, norms, rotary, softmax. Sums run over lanes in a
// fixed order that depends on the row's length alone.
namespace {

using U16 = unsigned short;

inline float widen(U16 x) { return BF16::at(&x, 0); }
inline U16 narrow(float x) {
  unsigned u;
  __builtin_memcpy(&u, &x, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<U16>((u >> 16) | 0x40);
  return static_cast<U16>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Vectors from and to either type; tails go through a small array, so that they see the same arithmetic.
inline Vec load_vec(const void* p, Type type, long at, long left) {
  if (left >= Vec::kLanes)
    return type == Type::kF32 ? Vec::load(static_cast<const float*>(p) + at)
                              : Vec::load_bf16(static_cast<const U16*>(p) + at);
  float part[Vec::kLanes] = {};
  for (long i = 0; i < left; ++i)
    part[i] = type == Type::kF32 ? static_cast<const float*>(p)[at + i] : widen(static_cast<const U16*>(p)[at + i]);
  return Vec::load(part);
}
inline void store_vec(Vec x, void* p, Type type, long at, long left) {
  if (left >= Vec::kLanes) {
    if (type == Type::kF32) {
      x.store(static_cast<float*>(p) + at);
    } else {
      x.store_bf16(static_cast<U16*>(p) + at);
    }
    return;
  }
  float part[Vec::kLanes];
  x.store(part);
  for (long i = 0; i < left; ++i) {
    if (type == Type::kF32) {
      static_cast<float*>(p)[at + i] = part[i];
    } else {
      static_cast<U16*>(p)[at + i] = narrow(part[i]);
    }
  }
}
inline Vec load_f32(const float* p, long at, long left) { return load_vec(p, Type::kF32, at, left); }

// exp to 2 ulp: 2^n times a polynomial in the rest (Cephes coefficients).
inline Vec exp(Vec x) {
  x = Vec::min(Vec::set(88.3f), Vec::max(Vec::set(-87.3f), x));  // in this order NaN stays NaN
  Vec n = Vec::round(x * Vec::set(1.44269504088896341f));
  Vec r = Vec::fma(n, Vec::set(-0.693359375f), x);
  r = Vec::fma(n, Vec::set(2.12194440e-4f), r);
  Vec p = Vec::set(1.9875691500e-4f);
  p = Vec::fma(p, r, Vec::set(1.3981999507e-3f));
  p = Vec::fma(p, r, Vec::set(8.3334519073e-3f));
  p = Vec::fma(p, r, Vec::set(4.1665795894e-2f));
  p = Vec::fma(p, r, Vec::set(1.6666665459e-1f));
  p = Vec::fma(p, r, Vec::set(5.0000001201e-1f));
  p = Vec::fma(p, r * r, r + Vec::set(1.0f));
  return Vec::scale2(p, n);
}
inline Vec sigmoid(Vec x) { return Vec::set(1.0f) / (Vec::set(1.0f) + exp(Vec::zero() - x)); }
// erf to 1.5e-7 (Abramowitz and Stegun 7.1.26).
inline Vec erf(Vec x) {
  Vec a = Vec::abs(x), t = Vec::set(1.0f) / Vec::fma(Vec::set(0.3275911f), a, Vec::set(1.0f));
  Vec p = Vec::set(1.061405429f);
  p = Vec::fma(p, t, Vec::set(-1.453152027f));
  p = Vec::fma(p, t, Vec::set(1.421413741f));
  p = Vec::fma(p, t, Vec::set(-0.284496736f));
  p = Vec::fma(p, t, Vec::set(0.254829592f));
  Vec y = Vec::set(1.0f) - p * t * exp(Vec::zero() - a * a);
  return Vec::with_sign(Vec::max(y, Vec::zero()), Vec::sign_of(x));
}
inline Vec activated(Vec x, Act act) {
  switch (act) {
    case Act::kGeluTanh: {  // 0.5 x (1 + tanh u) = x sigmoid(2 u)
      Vec u = Vec::set(0.7978845608028654f) * Vec::fma(Vec::set(0.044715f) * x * x, x, x);
      return x * sigmoid(u + u);
    }
    case Act::kGeluErf:
      return Vec::set(0.5f) * x * (Vec::set(1.0f) + erf(x * Vec::set(0.7071067811865476f)));
    case Act::kSilu:
      return x * sigmoid(x);
    case Act::kRelu:
      return Vec::max(Vec::zero(), x);  // in this order NaN stays NaN
    default:
      return x;
  }
}

void store(const StoreArgs& s) {
  for (int r = 0; r < s.rows; ++r) {
    const float* sums = s.sums + r * LA_TILE_COLUMNS;
    for (long c = 0; c < s.columns; c += Vec::kLanes) {
      long left = s.columns - c, at = r * s.stride + c;
      Vec x = Vec::load(sums + c);
      if (s.scale) x = x * load_f32(s.scale, c, left);
      if (s.bias) x = x + load_f32(s.bias, c, left);
      if (s.act != Act::kNone) x = activated(x, s.act);
      if (s.gate) x = x * load_f32(s.gate[r], c, left);
      if (s.residual) x = x + load_vec(s.residual, s.residual_type, at, left);
      store_vec(x, s.out, s.out_type, at, left);
    }
  }
}

inline float sum_of(Row x, long n) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) sum = sum + load_vec(x.data, x.type, i, n - i);
  return sum.sum();
}
inline float squares_of(Row x, long n) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = load_vec(x.data, x.type, i, n - i);
    sum = Vec::fma(v, v, sum);
  }
  return sum.sum();
}
// Around the mean; lanes behind the row's end count nothing.
inline float deviations_of(Row x, long n, float mean) {
  Vec sum = Vec::zero(), m = Vec::set(mean);
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec d = load_vec(x.data, x.type, i, n - i) - m;
    if (n - i < Vec::kLanes) {
      float part[Vec::kLanes];
      d.store(part);
      for (long j = n - i; j < Vec::kLanes; ++j) part[j] = 0;
      d = Vec::load(part);
    }
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

inline void scaled_row(Row x, int64_t n, float factor, const float* gain, Act act, void* out, Type out_type) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec y = load_vec(x.data, x.type, i, n - i) * Vec::set(factor) * load_f32(gain, i, n - i);
    store_vec(act == Act::kNone ? y : activated(y, act), out, out_type, i, n - i);
  }
}

void rms_norm(Row x, int64_t n, float eps, const float* gain, void* out, Type out_type) {
  scaled_row(x, n, 1.0f / __builtin_sqrtf(squares_of(x, n) / static_cast<float>(n) + eps), gain, Act::kNone, out,
             out_type);
}

// Types known to the compiler: rows of a narrow VAE are a vector or two, and there are millions of them.
template <Type kIn, Type kOut>
void channel_norm_of(const void* x, int64_t rows, int64_t n, const float* gain, Act act, void* out) {
  float root = __builtin_sqrtf(static_cast<float>(n));
  for (long r = 0; r < rows; ++r) {
    Row row{static_cast<const char*>(x) + r * n * (kIn == Type::kF32 ? 4 : 2), kIn};
    float length = __builtin_sqrtf(squares_of(row, n));
    scaled_row(row, n, root / (length > 1e-12f ? length : 1e-12f), gain, act,
               static_cast<char*>(out) + r * n * (kOut == Type::kF32 ? 4 : 2), kOut);
  }
}

void channel_norm(Row x, int64_t rows, int64_t n, const float* gain, Act act, void* out, Type out_type) {
  bool from_f32 = x.type == Type::kF32, to_f32 = out_type == Type::kF32;
  auto run = from_f32 ? (to_f32 ? channel_norm_of<Type::kF32, Type::kF32> : channel_norm_of<Type::kF32, Type::kBF16>)
                      : (to_f32 ? channel_norm_of<Type::kBF16, Type::kF32> : channel_norm_of<Type::kBF16, Type::kBF16>);
  run(x.data, rows, n, gain, act, out);
}

inline float value_at(Row x, long i) { return x.type == Type::kF32 ? F32::at(x.data, i) : BF16::at(x.data, i); }
inline void put(void* out, Type type, long i, float value) {
  if (type == Type::kF32) {
    static_cast<float*>(out)[i] = value;
  } else {
    static_cast<U16*>(out)[i] = narrow(value);
  }
}

void rope(Row x, const float* cos_sin, int64_t heads, int64_t pairs, void* out, Type out_type) {
  for (long h = 0; h < heads; ++h) {
    for (long p = 0; p < pairs; ++p) {
      long at = (h * pairs + p) * 2;
      float a = value_at(x, at), b = value_at(x, at + 1), c = cos_sin[2 * p], s = cos_sin[2 * p + 1];
      put(out, out_type, at, a * c - b * s);
      put(out, out_type, at + 1, a * s + b * c);
    }
  }
}

inline float max_of(Row x, long n) {
  Vec largest = Vec::set(-__builtin_inff());
  long i = 0;
  for (; i + Vec::kLanes <= n; i += Vec::kLanes) largest = Vec::max(largest, load_vec(x.data, x.type, i, n - i));
  float best = largest.largest();
  for (; i < n; ++i) best = value_at(x, i) > best ? value_at(x, i) : best;
  return best;
}

// exp(x - m) into out; returns the sum of what was stored.
inline float exp_row(Row x, long n, float m, void* out, Type out_type) {
  Vec sum = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec p = exp(load_vec(x.data, x.type, i, n - i) - Vec::set(m));
    store_vec(p, out, out_type, i, n - i);
    sum = sum + load_vec(out, out_type, i, n - i);  // zeros behind the end
  }
  return sum.sum();
}

void softmax(Row x, int64_t n, void* out, Type out_type) {
  float m = max_of(x, n), sum = 0;
  Vec total = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) {
    float part[Vec::kLanes] = {};
    Vec p = exp(load_vec(x.data, x.type, i, n - i) - Vec::set(m));
    store_vec(p, part, Type::kF32, 0, n - i);
    total = total + Vec::load(part);
  }
  sum = total.sum();
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec p = exp(load_vec(x.data, x.type, i, n - i) - Vec::set(m));
    store_vec(p * Vec::set(1.0f / sum), out, out_type, i, n - i);
  }
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
  for (; i < n; ++i) out[i] = widen(x[i]);
}

void activate(Row x, int64_t n, Act act, void* out, Type out_type) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = load_vec(x.data, x.type, i, n - i);
    store_vec(act == Act::kNone ? v : activated(v, act), out, out_type, i, n - i);
  }
}

float online_softmax(float* s, int64_t n, float scale, const float* bias, float old_max, float* new_max, void* p,
                     Type p_type) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = load_f32(s, i, n - i) * Vec::set(scale);
    if (bias) v = v + load_f32(bias, i, n - i);
    store_vec(v, s, Type::kF32, i, n - i);
  }
  Row row{s, Type::kF32};
  float m = max_of(row, n);
  *new_max = m > old_max ? m : old_max;
  return exp_row(row, n, *new_max, p, p_type);
}

void rescale_add(float* o, float factor, const float* t, int64_t n) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    store_vec(Vec::fma(load_f32(o, i, n - i), Vec::set(factor), load_f32(t, i, n - i)), o, Type::kF32, i, n - i);
  }
}

// The whole table in f32 multiply-adds.
Kernels fma_kernels(const char* name) {
  Kernels k;
  k.name = name;
  k.columns = LA_TILE_COLUMNS;
  k.tile[0][0] = tile<F32, false>;
  k.tile[0][1] = tile<F32, true>;
  k.tile[1][0] = tile<BF16, false>;
  k.tile[1][1] = tile<BF16, true>;
  k.store = store;
  k.unpack_i8 = unpack_i8;
  k.unpack_f8 = unpack_f8;
  k.unpack_q4 = unpack_q4;
  k.layer_norm = layer_norm;
  k.rms_norm = rms_norm;
  k.channel_norm = channel_norm;
  k.rope = rope;
  k.softmax = softmax;
  k.add = add;
  k.multiply = multiply;
  k.widen = widen;
  k.activate = activate;
  k.online_softmax = online_softmax;
  k.rescale_add = rescale_add;
  return k;
}

}  // namespace
