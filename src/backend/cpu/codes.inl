// Products of 8-bit codes: activations as unsigned bytes around 128, weights and keys signed.
namespace {

// x - less = (code - kZero) * scale, code - kZero in -127..127; codes behind n, up to a whole four, stand for zero.
// Returns the sum of code - kZero. less may be null.
template <int kZero>
inline int quantise(Row x, const float* less, int64_t n, void* codes, float* scale) {
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
    __m512i code = _mm512_cvtps_epi32(q.v);
    sum = _mm512_add_epi32(sum, code);
    long left = end - i < Vec::kLanes ? end - i : Vec::kLanes;
    code = _mm512_add_epi32(code, _mm512_set1_epi32(kZero));
    _mm_mask_storeu_epi8(static_cast<char*>(codes) + i, Vec::first(left), _mm512_cvtepi32_epi8(code));
  }
  return _mm512_reduce_add_epi32(sum);
}

void quantise_row(Row x, int64_t n, unsigned char* codes, float* scale) { quantise<128>(x, nullptr, n, codes, scale); }

void quantise_key(Row x, const float* less, int64_t n, signed char* codes, float* scale, int* offset) {
  *offset = 128 * quantise<0>(x, less, n, codes, scale);
}

inline __m512 without_offset(const int* sum, const int* offset) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(sum), _mm512_loadu_si512(offset)));
}

// The sums less the offsets, times the row's scale, as f32 in place.
void scale_quads(int* sums, int rows, const int* offsets, const float* scales) {
  for (int r = 0; r < rows; ++r, sums += LA_TILE_COLUMNS) {
    for (int c = 0; c < LA_TILE_COLUMNS; c += 16)
      _mm512_storeu_ps(sums + c, _mm512_mul_ps(without_offset(sums + c, offsets + c), _mm512_set1_ps(scales[r])));
  }
}

// The same with a scale a column.
void scale_codes(int* sums, int64_t n, const int* offsets, const float* scales) {
  for (long c = 0; c < n; c += 16)
    _mm512_storeu_ps(sums + c, _mm512_mul_ps(without_offset(sums + c, offsets + c), _mm512_loadu_ps(scales + c)));
}

}  // namespace
