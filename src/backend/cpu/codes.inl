// Products of 8-bit codes: activations as unsigned bytes around 128, weights signed.
namespace {

// x = (code - 128) * scale, code in 1..255; codes behind n, up to a whole four, stand for zero.
void quantise_row(Row x, int64_t n, unsigned char* codes, float* scale) {
  Vec largest = Vec::zero();
  for (long i = 0; i < n; i += Vec::kLanes) largest = Vec::max(largest, Vec::abs(load_vec(x.data, x.type, i, n - i)));
  float most = largest.largest();
  *scale = most / 127.0f;
  Vec factor = Vec::set(most > 0 ? 127.0f / most : 0.0f);
  const long end = (n + 3) / 4 * 4;
  for (long i = 0; i < end; i += Vec::kLanes) {
    Vec q = i < n ? load_vec(x.data, x.type, i, n - i) * factor : Vec::zero();
    __m512i code = _mm512_add_epi32(_mm512_cvtps_epi32(q.v), _mm512_set1_epi32(128));
    long left = end - i < Vec::kLanes ? end - i : Vec::kLanes;
    _mm_mask_storeu_epi8(codes + i, Vec::first(left), _mm512_cvtepi32_epi8(code));
  }
}

// The sums less the offsets, times the row's scale, as f32 in place.
void scale_quads(int* sums, int rows, const int* offsets, const float* scales) {
  for (int r = 0; r < rows; ++r, sums += LA_TILE_COLUMNS) {
    for (int c = 0; c < LA_TILE_COLUMNS; c += 16) {
      __m512i whole = _mm512_sub_epi32(_mm512_loadu_si512(sums + c), _mm512_loadu_si512(offsets + c));
      _mm512_storeu_ps(sums + c, _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_set1_ps(scales[r])));
    }
  }
}

}  // namespace
