// Sixteen floats.
namespace {
struct Vec {
  __m512 v;
  static constexpr int kLanes = 16;
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec set(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load_bf16(const unsigned short* p) {
    return {_mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16))};
  }
  // The first n of them, then zeros.
  static Vec load_part(const float* p, long n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static Vec load_bf16_part(const unsigned short* p, long n) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(n), p)), 16))};
  }
  static Vec first(Vec a, long n) { return {_mm512_maskz_mov_ps(first(n), a.v)}; }
  static __mmask16 first(long n) { return static_cast<__mmask16>((1u << n) - 1); }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_part(float* p, long n) const { _mm512_mask_storeu_ps(p, first(n), v); }
  void store_bf16(unsigned short* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrowed()); }
  void store_bf16_part(unsigned short* p, long n) const { _mm256_mask_storeu_epi16(p, first(n), narrowed()); }
  // To bf16, to nearest even.
  __m256i narrowed() const {
#ifdef __AVX512BF16__
    return (__m256i)_mm512_cvtneps_pbh(v);
#else
    __m512i u = _mm512_castps_si512(v);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i stored = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __m512i quiet = _mm512_or_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(0x40));
    stored = _mm512_mask_mov_epi32(stored, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    return _mm512_cvtepi32_epi16(stored);
#endif
  }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  static Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  static Vec abs(Vec a) { return {_mm512_abs_ps(a.v)}; }
  static Vec sign_of(Vec a) { return {_mm512_and_ps(_mm512_set1_ps(-0.0f), a.v)}; }
  static Vec with_sign(Vec a, Vec sign) { return {_mm512_or_ps(a.v, sign.v)}; }
  static Vec round(Vec a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  static Vec scale2(Vec a, Vec n) { return {_mm512_scalef_ps(a.v, n.v)}; }
  static Vec scale2_normal(Vec a, Vec n) { return scale2(a, n); }
  // 1 / a and 1 / sqrt(a) to 2 ulp, a normal and positive: an estimate of 14 bits and a step of Newton's.
  static Vec reciprocal(Vec a) {
    __m512 r = _mm512_rcp14_ps(a.v), rest = _mm512_fnmadd_ps(a.v, r, _mm512_set1_ps(1.0f));
    return {_mm512_fmadd_ps(r, rest, r)};
  }
  static Vec reciprocal_root(Vec a) {
    __m512 r = _mm512_rsqrt14_ps(a.v), rest = _mm512_fnmadd_ps(_mm512_mul_ps(a.v, r), r, _mm512_set1_ps(1.0f));
    return {_mm512_fmadd_ps(_mm512_mul_ps(r, _mm512_set1_ps(0.5f)), rest, r)};
  }
  // Pairs (a, b) rotated by pairs (c, s): (a c - b s, b c + a s).
  static Vec rotated(Vec x, Vec cs) {
    return {_mm512_fmaddsub_ps(x.v, _mm512_moveldup_ps(cs.v),
                               _mm512_mul_ps(_mm512_permute_ps(x.v, 0xb1), _mm512_movehdup_ps(cs.v)))};
  }
  // Two vectors as bf16, one after the other; sum += what was stored.
  static void store_and_sum(Vec a, Vec b, unsigned short* p, Vec& sum) {
#ifdef __AVX512BF16__
    __m512bh both = _mm512_cvtne2ps_pbh(b.v, a.v);
    _mm512_storeu_si512(p, (__m512i)both);
    sum.v = _mm512_dpbf16_ps(sum.v, both, (__m512bh)_mm512_set1_epi16(0x3f80));
#else
    a.store_bf16(p);
    b.store_bf16(p + kLanes);
    sum = {_mm512_add_ps(sum.v, _mm512_add_ps(load_bf16(p).v, load_bf16(p + kLanes).v))};
#endif
  }
  // The lower half of the lanes.
  void store_half(float* p) const { _mm256_storeu_ps(p, _mm512_castps512_ps256(v)); }
  // Item j of 16 rows of four or eight becomes m[j].
  static void transpose4(const float* const* rows, Vec (&m)[16]) {
    __m512 a[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      auto four = [&](int r) { return _mm_loadu_ps(rows[i + r]); };
      a[i] = _mm512_castps128_ps512(four(0));
      a[i] = _mm512_mask_broadcast_f32x4(a[i], 0x00f0, four(4));
      a[i] = _mm512_mask_broadcast_f32x4(a[i], 0x0f00, four(8));
      a[i] = _mm512_mask_broadcast_f32x4(a[i], 0xf000, four(12));
    }
    __m512 low = _mm512_unpacklo_ps(a[0], a[1]), low2 = _mm512_unpacklo_ps(a[2], a[3]);
    __m512 high = _mm512_unpackhi_ps(a[0], a[1]), high2 = _mm512_unpackhi_ps(a[2], a[3]);
    m[0].v = _mm512_shuffle_ps(low, low2, 0x44);
    m[1].v = _mm512_shuffle_ps(low, low2, 0xee);
    m[2].v = _mm512_shuffle_ps(high, high2, 0x44);
    m[3].v = _mm512_shuffle_ps(high, high2, 0xee);
  }
  static void transpose8(const float* const* rows, Vec (&m)[16]) {
    __m512 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // two rows each, so that the last step finds them in order
      int r = i < 4 ? i : i + 4;
      a[i] = _mm512_castps256_ps512(_mm256_loadu_ps(rows[r]));
      a[i] = _mm512_mask_broadcast_f32x8(a[i], 0xff00, _mm256_loadu_ps(rows[r + 4]));
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
      __m512 low = _mm512_unpacklo_ps(a[i], a[i + 1]), low2 = _mm512_unpacklo_ps(a[i + 2], a[i + 3]);
      __m512 high = _mm512_unpackhi_ps(a[i], a[i + 1]), high2 = _mm512_unpackhi_ps(a[i + 2], a[i + 3]);
      b[i] = _mm512_shuffle_ps(low, low2, 0x44);
      b[i + 1] = _mm512_shuffle_ps(low, low2, 0xee);
      b[i + 2] = _mm512_shuffle_ps(high, high2, 0x44);
      b[i + 3] = _mm512_shuffle_ps(high, high2, 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      m[c].v = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88);
      m[4 + c].v = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    }
  }
  // False: rows of n are not short.
  static bool transpose_short(const float* const* rows, long n, Vec (&m)[16]) {
    if (n != 4 && n != 8) return false;
    if (n == 4) {
      transpose4(rows, m);
    } else {
      transpose8(rows, m);
    }
    return true;
  }
  // Row i's lane j becomes row j's lane i.
  static void transpose(Vec (&m)[16]) {
    __m512 a[16], b[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      a[i] = _mm512_unpacklo_ps(m[i].v, m[i + 1].v);
      a[i + 1] = _mm512_unpackhi_ps(m[i].v, m[i + 1].v);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {  // b[i + c], quarter q: column 4 q + c of rows i to i + 3
      b[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      __m512 low = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x44), high = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xee);
      __m512 low2 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x44);
      __m512 high2 = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xee);
      m[c].v = _mm512_shuffle_f32x4(low, low2, 0x88);
      m[4 + c].v = _mm512_shuffle_f32x4(low, low2, 0xdd);
      m[8 + c].v = _mm512_shuffle_f32x4(high, high2, 0x88);
      m[12 + c].v = _mm512_shuffle_f32x4(high, high2, 0xdd);
    }
  }
  // Every lane: the sum of its half of the lanes, or of all.
  Vec half_sums() const {
    __m512 s = _mm512_add_ps(v, _mm512_shuffle_f32x4(v, v, 0xb1));
    s = _mm512_add_ps(s, _mm512_permute_ps(s, 0x4e));
    return {_mm512_add_ps(s, _mm512_permute_ps(s, 0xb1))};
  }
  Vec acc() const {
    __m512 s = half_sums().v;
    return {_mm512_add_ps(s, _mm512_shuffle_f32x4(s, s, 0x4e))};
  }
  float sum() const { return _mm512_reduce_add_ps(v); }
  float largest() const { return _mm512_reduce_max_ps(v); }
  // Pairs of bf16 in 32-bit lanes: the lower (even k) and the upper (odd k) as floats.
  static Vec even_bf16(const void* p) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))}; }
  static Vec odd_bf16(const void* p) {
    return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(int(0xffff0000))))};
  }
  // One half of the pair at p in every lane.
  static Vec even_of_pair(const void* p) { return {_mm512_castsi512_ps(_mm512_slli_epi32(pair(p), 16))}; }
  static Vec odd_of_pair(const void* p) {
    return {_mm512_castsi512_ps(_mm512_and_si512(pair(p), _mm512_set1_epi32(int(0xffff0000))))};
  }
  static __m512i pair(const void* p) {
    int both;
    __builtin_memcpy(&both, p, 4);
    return _mm512_set1_epi32(both);
  }
  // Sixteen bytes as int32.
  static __m512i bytes(const void* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))); }
  static Vec from_i8(const void* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(static_cast<const __m128i*>(p))))};
  }
  static Vec from_e4m3(const void* p) {
    __m512i stored = bytes(p), size = _mm512_and_si512(stored, _mm512_set1_epi32(0x7f));
    __m512i large = _mm512_add_epi32(_mm512_slli_epi32(size, 20), _mm512_set1_epi32(120 << 23));
    __m512 small = _mm512_mul_ps(_mm512_cvtepi32_ps(size), _mm512_set1_ps(0x1p-9f));
    __m512i chosen =
        _mm512_mask_mov_epi32(_mm512_castps_si512(small), _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(7)), large);
    __m512i sign = _mm512_slli_epi32(_mm512_and_si512(stored, _mm512_set1_epi32(0x80)), 24);
    return {_mm512_castsi512_ps(_mm512_or_si512(chosen, sign))};
  }
  // The lower and the upper halves of sixteen bytes, less eight.
  static Vec from_low_half(const void* p) { return signed4(_mm512_and_si512(bytes(p), _mm512_set1_epi32(15))); }
  static Vec from_high_half(const void* p) { return signed4(_mm512_srli_epi32(bytes(p), 4)); }
  static Vec signed4(__m512i stored) { return {_mm512_cvtepi32_ps(_mm512_sub_epi32(stored, _mm512_set1_epi32(8)))}; }
  // Pairs for a bf16 panel, of values that are exact in bf16.
  static void store_pairs(Vec even, Vec odd, void* p) {
    __m512i low = _mm512_srli_epi32(_mm512_castps_si512(even.v), 16);
    _mm512_storeu_si512(p, _mm512_or_si512(low, _mm512_castps_si512(odd.v)));
  }
};
inline Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
}  // namespace
