// Products of 8-bit values: activations are uint8 with zero point 128, weights and keys are int8.
namespace {

// x - less = (quantised - kZero) * scale, quantised - kZero in -127..127. Values after n, up to a multiple of four, are
// kZero. Returns the sum of quantised - kZero. less may be null.
template <int kZero>
inline int quantise(Row x, const float* less, int64_t n, void* quantised, float* scale) {
  auto value = [&](long i) {
    Vec v = load_vec(x.data, x.type, i, n - i);
    return less ? v - load_f32(less, i, n - i) : v;
  };
  Vec largest = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) largest = Vec::max(largest, Vec::abs(value(i)));
  float most = largest.largest();
  *scale = most / 127.0f;
  Vec factor = Vec::set(most > 0 ? 127.0f / most : 0.0f);
  __m512i sum = _mm512_setzero_si512();
  const long end = (n + 3) / 4 * 4;
  for (long i = 0; i < end; i += Vec::kLanes) {
    Vec q = i < n ? value(i) * factor : Vec::zero();
    __m512i rounded = _mm512_cvtps_epi32(q.v);
    sum = _mm512_add_epi32(sum, rounded);
    long left = end - i < Vec::kLanes ? end - i : Vec::kLanes;
    rounded = _mm512_add_epi32(rounded, _mm512_set1_epi32(kZero));
    _mm_mask_storeu_epi8(static_cast<char*>(quantised) + i, Vec::first(left), _mm512_cvtepi32_epi8(rounded));
  }
  return _mm512_reduce_add_epi32(sum);
}

void quantise_row(Row x, int64_t n, unsigned char* quantised, float* scale) {
  quantise<128>(x, nullptr, n, quantised, scale);
}

void quantise_key(Row x, const float* less, int64_t n, signed char* quantised, float* scale, int* offset) {
  *offset = 128 * quantise<0>(x, less, n, quantised, scale);
}

inline __m512 without_offset(const int* sum, const int* offset) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sum), _mm512_loadu_si512(offset)));
}

// (acc - offsets) * the row's scale, as f32 in place.
void scale_i8(int* acc, int rows, const int* offsets, const float* scales) {
  for (int r = 0; r < rows; ++r, acc += LA_TILE_COLUMNS) {
    for (int c = 0; c < LA_TILE_COLUMNS; c += 16)
      _mm512_storeu_ps(acc + c, _mm512_mul_ps(without_offset(acc + c, offsets + c), _mm512_set1_ps(scales[r])));
  }
}

// Scores as f32 in place. The row's factor is applied in the exponential, unless there is a bias or it is negative.
inline float scores_of(const SoftmaxWeightsArgs& t, bool as_they_are) {
  const __m512 factor = _mm512_set1_ps(t.factor * kLog2E);
  __m512 most = _mm512_set1_ps(-__builtin_inff());
  auto score = [&](long i) {
    __m512 v = _mm512_mul_ps(without_offset(t.acc + i, t.offsets + i), _mm512_loadu_ps(t.scales + i));
    if (!as_they_are) v = _mm512_mul_ps(v, factor);
    if (t.bias) v = _mm512_fmadd_ps(load_f32(t.bias, i, t.n - i).v, _mm512_set1_ps(kLog2E), v);
    _mm512_storeu_ps(t.acc + i, v);
    return v;
  };
  long i = 0;
  for (; i + 16 <= t.n; i += 16) most = _mm512_max_ps(most, score(i));
  if (i < t.n) most = _mm512_mask_max_ps(most, Vec::first(t.n - i), most, score(i));
  return _mm512_reduce_max_ps(most);
}

void softmax_weights_i8(SoftmaxWeightsArgs& t) {
  constexpr float kLog2Of255 = 7.99435344f;
  const bool as_they_are = !t.bias && t.factor >= 0;
  const float factor = as_they_are ? t.factor * kLog2E : 1.0f;
  t.largest = scores_of(t, as_they_are) * factor;
  const Vec scale = Vec::set(factor), shift = Vec::set(kLog2Of255 - t.largest);
  __m512i total = _mm512_setzero_si512();
  auto rounded_of = [&](long i) {
    return _mm512_cvtps_epi32(coarse_exp2(Vec::fma({_mm512_loadu_ps(t.acc + i)}, scale, shift)).v);
  };
  long i = 0;
  for (; i + 16 <= t.n; i += 16) {
    __m512i rounded = rounded_of(i);
    total = _mm512_add_epi32(total, rounded);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(t.quantised + i), _mm512_cvtusepi32_epi8(rounded));
  }
  if (i < t.n) {
    __m512i rounded = _mm512_maskz_mov_epi32(Vec::first(t.n - i), rounded_of(i));
    total = _mm512_add_epi32(total, rounded);
    _mm_mask_storeu_epi8(t.quantised + i, Vec::first((t.n + 3) / 4 * 4 - i), _mm512_cvtusepi32_epi8(rounded));
  }
  t.total = static_cast<float>(_mm512_reduce_add_epi32(total));
}

void largest_of(Row x, int64_t n, float* largest) {
  for (long i = 0; i < n; i += Vec::kLanes) {
    Vec v = Vec::abs(load_vec(x.data, x.type, i, n - i));
    store_vec(Vec::max(load_f32(largest, i, n - i), v), largest, Type::kF32, i, n - i);
  }
}

void quantise_values(const void* const* rows, int64_t n, const float* factors, void* groups_of_4) {
  const __m512i byte = _mm512_set1_epi32(255);
  for (long i = 0; i < LA_TILE_COLUMNS; i += 16) {
    __m512i group = _mm512_setzero_si512();
    for (int r = 0; r < 4; ++r) {
      if (!rows[r] || i >= n) continue;
      Vec v = load_vec(rows[r], Type::kBF16, i, n - i) * load_f32(factors, i, n - i);
      __m512i rounded = _mm512_and_si512(_mm512_cvtps_epi32(v.v), byte);
      group = _mm512_or_si512(group, _mm512_sll_epi32(rounded, _mm_cvtsi32_si128(8 * r)));
    }
    _mm512_storeu_si512(static_cast<char*>(groups_of_4) + 4 * i, group);
  }
}

void add_i8(const int* acc, int64_t n, const float* scales, float factor, float shrink, float* out) {
  for (long i = 0; i < n; i += 16) {
    __m512 v = _mm512_mul_ps(_mm512_loadu_ps(scales + i), _mm512_set1_ps(factor));
    v = _mm512_mul_ps(v, _mm512_cvtepi32_ps(_mm512_loadu_si512(acc + i)));
    _mm512_storeu_ps(out + i, _mm512_fmadd_ps(_mm512_loadu_ps(out + i), _mm512_set1_ps(shrink), v));
  }
}

}  // namespace
