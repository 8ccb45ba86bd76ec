// Eight floats.
namespace {
struct Vec {
  __m256 v;
  static constexpr int kLanes = 8;
  static Vec zero() { return {_mm256_setzero_ps()}; }
  static Vec set(float x) { return {_mm256_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static Vec load_bf16(const unsigned short* p) {
    return {_mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16))};
  }
  // The first n of them, then zeros.
  static Vec load_part(const float* p, long n) { return {_mm256_maskload_ps(p, first(n))}; }
  static Vec load_bf16_part(const unsigned short* p, long n) {
    unsigned short part[kLanes] = {};
    for (long i = 0; i < n; ++i) part[i] = p[i];
    return load_bf16(part);
  }
  static Vec first(Vec a, long n) { return {_mm256_and_ps(a.v, _mm256_castsi256_ps(first(n)))}; }
  static __m256i first(long n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_part(float* p, long n) const { _mm256_maskstore_ps(p, first(n), v); }
  void store_bf16_part(unsigned short* p, long n) const {
    unsigned short part[kLanes];
    store_bf16(part);
    for (long i = 0; i < n; ++i) p[i] = part[i];
  }
  void store_bf16(unsigned short* p) const {
    __m256i u = _mm256_castps_si256(v);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i stored = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    stored = _mm256_blendv_epi8(stored, quiet, nan);
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(stored, stored), 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
  }
  static Vec fma(Vec a, Vec b, Vec c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  static Vec max(Vec a, Vec b) { return {_mm256_max_ps(a.v, b.v)}; }
  static Vec min(Vec a, Vec b) { return {_mm256_min_ps(a.v, b.v)}; }
  static Vec abs(Vec a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  static Vec sign_of(Vec a) { return {_mm256_and_ps(_mm256_set1_ps(-0.0f), a.v)}; }
  static Vec with_sign(Vec a, Vec sign) { return {_mm256_or_ps(a.v, sign.v)}; }
  static Vec round(Vec a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
  // a * 2^n for whole n in -252..252, in two steps so that the tiniest results do not wrap.
  static Vec scale2(Vec a, Vec n) {
    __m256i i = _mm256_cvtps_epi32(n.v), half = _mm256_srai_epi32(i, 1), rest = _mm256_sub_epi32(i, half);
    auto power = [](__m256i e) {
      return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, _mm256_set1_epi32(127)), 23));
    };
    return {_mm256_mul_ps(_mm256_mul_ps(a.v, power(half)), power(rest))};
  }
  // The same where a and the result are normal, or a is NaN.
  static Vec scale2_normal(Vec a, Vec n) {
    __m256i e = _mm256_slli_epi32(_mm256_cvtps_epi32(n.v), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.v), e))};
  }
  // 1 / a and 1 / sqrt(a) to 3 ulp, a normal and positive: an estimate of 12 bits and a step of Newton's.
  static Vec reciprocal(Vec a) {
    __m256 r = _mm256_rcp_ps(a.v), rest = _mm256_fnmadd_ps(a.v, r, _mm256_set1_ps(1.0f));
    return {_mm256_fmadd_ps(r, rest, r)};
  }
  static Vec reciprocal_root(Vec a) {
    __m256 r = _mm256_rsqrt_ps(a.v), rest = _mm256_fnmadd_ps(_mm256_mul_ps(a.v, r), r, _mm256_set1_ps(1.0f));
    return {_mm256_fmadd_ps(_mm256_mul_ps(r, _mm256_set1_ps(0.5f)), rest, r)};
  }
  // Pairs (a, b) rotated by pairs (c, s): (a c - b s, b c + a s).
  static Vec rotated(Vec x, Vec cs) {
    return {_mm256_fmaddsub_ps(x.v, _mm256_moveldup_ps(cs.v),
                               _mm256_mul_ps(_mm256_permute_ps(x.v, 0xb1), _mm256_movehdup_ps(cs.v)))};
  }
  // Two vectors as bf16, one after the other; sum += what was stored.
  static void store_and_sum(Vec a, Vec b, unsigned short* p, Vec& sum) {
    a.store_bf16(p);
    b.store_bf16(p + kLanes);
    sum = {_mm256_add_ps(sum.v, _mm256_add_ps(load_bf16(p).v, load_bf16(p + kLanes).v))};
  }
  // The lower half of the lanes.
  void store_half(float* p) const { _mm_storeu_ps(p, _mm256_castps256_ps128(v)); }
  static bool transpose_short(const float* const*, long, Vec (&)[8]) { return false; }
  // Row i's lane j becomes row j's lane i.
  static void transpose(Vec (&m)[8]) {
    __m256 a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(m[i].v, m[i + 1].v);
      a[i + 1] = _mm256_unpackhi_ps(m[i].v, m[i + 1].v);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {  // b[i + c], half h: column 4 h + c of rows i to i + 3
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      m[c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
      m[4 + c].v = _mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
    }
  }
  // Every lane: the sum of its half of the lanes, or of all.
  Vec half_sums() const {
    __m256 s = _mm256_add_ps(v, _mm256_permute_ps(v, 0x4e));
    return {_mm256_add_ps(s, _mm256_permute_ps(s, 0xb1))};
  }
  Vec acc() const {
    __m256 s = half_sums().v;
    return {_mm256_add_ps(s, _mm256_permute2f128_ps(s, s, 1))};
  }
  float sum() const {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }
  float largest() const {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
  }
  // Pairs of bf16 in 32-bit lanes: the lower (even k) and the upper (odd k) as floats.
  static Vec even_bf16(const void* p) {
    return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(p)), 16))};
  }
  static Vec odd_bf16(const void* p) {
    return {_mm256_castsi256_ps(
        _mm256_and_si256(_mm256_loadu_si256(static_cast<const __m256i*>(p)), _mm256_set1_epi32(int(0xffff0000))))};
  }
  // One half of the pair at p in every lane.
  static Vec even_of_pair(const void* p) { return {_mm256_castsi256_ps(_mm256_slli_epi32(pair(p), 16))}; }
  static Vec odd_of_pair(const void* p) {
    return {_mm256_castsi256_ps(_mm256_and_si256(pair(p), _mm256_set1_epi32(int(0xffff0000))))};
  }
  static __m256i pair(const void* p) {
    int both;
    __builtin_memcpy(&both, p, 4);
    return _mm256_set1_epi32(both);
  }
  // Eight bytes as int32.
  static __m256i bytes(const void* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))); }
  static Vec from_i8(const void* p) {
    return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(static_cast<const __m128i*>(p))))};
  }
  static Vec from_e4m3(const void* p) {
    __m256i stored = bytes(p), size = _mm256_and_si256(stored, _mm256_set1_epi32(0x7f));
    __m256i large = _mm256_add_epi32(_mm256_slli_epi32(size, 20), _mm256_set1_epi32(120 << 23));
    __m256 small = _mm256_mul_ps(_mm256_cvtepi32_ps(size), _mm256_set1_ps(0x1p-9f));
    __m256 is_large = _mm256_castsi256_ps(_mm256_cmpgt_epi32(size, _mm256_set1_epi32(7)));
    __m256i sign = _mm256_slli_epi32(_mm256_and_si256(stored, _mm256_set1_epi32(0x80)), 24);
    return {_mm256_or_ps(_mm256_blendv_ps(small, _mm256_castsi256_ps(large), is_large), _mm256_castsi256_ps(sign))};
  }
  // The lower and the upper halves of eight bytes, less eight.
  static Vec from_low_half(const void* p) { return signed4(_mm256_and_si256(bytes(p), _mm256_set1_epi32(15))); }
  static Vec from_high_half(const void* p) { return signed4(_mm256_srli_epi32(bytes(p), 4)); }
  static Vec signed4(__m256i stored) { return {_mm256_cvtepi32_ps(_mm256_sub_epi32(stored, _mm256_set1_epi32(8)))}; }
  // Pairs for a bf16 panel, of values that are exact in bf16.
  static void store_pairs(Vec even, Vec odd, void* p) {
    __m256i low = _mm256_srli_epi32(_mm256_castps_si256(even.v), 16);
    _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_or_si256(low, _mm256_castps_si256(odd.v)));
  }
};
inline Vec operator+(Vec a, Vec b) { return {_mm256_add_ps(a.v, b.v)}; }
inline Vec operator-(Vec a, Vec b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline Vec operator*(Vec a, Vec b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline Vec operator/(Vec a, Vec b) { return {_mm256_div_ps(a.v, b.v)}; }
}  // namespace
