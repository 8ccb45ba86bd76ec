// Products of 8-bit codes (codes.inl) by AVX512-VNNI, four of them a lane.
namespace {

static_assert(LA_TILE_COLUMNS == 64, "four vectors of sums");

// Codes of k inputs (pack.h) as [k / 4][columns][4]; offsets[column] += 128 * their sum.
void quads_i8(const void* codes, int64_t k, void* quads, int* offsets) {
  const char* from = static_cast<const char*>(codes);
  char* to = static_cast<char*>(quads);
  const __m512i middle = _mm512_set1_epi8(static_cast<char>(128));
  __m512i sum[4];
  for (int v = 0; v < 4; ++v) sum[v] = _mm512_loadu_si512(offsets + 16 * v);
  const long rows = (k + 1) / 2 * 2;
  for (long row = 0; row < k; row += 4, from += 256, to += 256) {
    auto codes_of = [&](long r) { return row + r < rows ? _mm512_loadu_si512(from + 64 * r) : _mm512_setzero_si512(); };
    __m512i a = codes_of(0), b = codes_of(1), c = codes_of(2), d = codes_of(3);
    __m512i low = _mm512_unpacklo_epi8(a, b), low2 = _mm512_unpacklo_epi8(c, d);
    __m512i high = _mm512_unpackhi_epi8(a, b), high2 = _mm512_unpackhi_epi8(c, d);
    // t[j], quarter q: columns 16 q + 4 j to 16 q + 4 j + 3
    __m512i t0 = _mm512_unpacklo_epi16(low, low2), t1 = _mm512_unpackhi_epi16(low, low2);
    __m512i t2 = _mm512_unpacklo_epi16(high, high2), t3 = _mm512_unpackhi_epi16(high, high2);
    __m512i x = _mm512_shuffle_i32x4(t0, t1, 0x44), y = _mm512_shuffle_i32x4(t2, t3, 0x44);
    __m512i z = _mm512_shuffle_i32x4(t0, t1, 0xee), w = _mm512_shuffle_i32x4(t2, t3, 0xee);
    const __m512i out[4] = {_mm512_shuffle_i32x4(x, y, 0x88), _mm512_shuffle_i32x4(x, y, 0xdd),
                            _mm512_shuffle_i32x4(z, w, 0x88), _mm512_shuffle_i32x4(z, w, 0xdd)};
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) {
      _mm512_storeu_si512(to + 64 * v, out[v]);
      sum[v] = _mm512_dpbusd_epi32(sum[v], middle, out[v]);
    }
  }
  for (int v = 0; v < 4; ++v) _mm512_storeu_si512(offsets + 16 * v, sum[v]);
}

template <int R>
void quad_rows(const QuadArgs& t) {
  __m512i sum[R][4];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v)
      sum[r][v] = t.more ? _mm512_loadu_si512(t.sums + r * t.sums_stride + v * 16) : _mm512_setzero_si512();
  }
  const char* b = static_cast<const char*>(t.b);
  for (long quad = 0; quad < t.quads; ++quad, b += 256) {
    __m512i w[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) w[v] = _mm512_loadu_si512(b + 64 * v);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int bits;
      __builtin_memcpy(&bits, t.a + r * t.stride + 4 * quad, 4);
      __m512i x = _mm512_set1_epi32(bits);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, w[v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) _mm512_storeu_si512(t.sums + r * t.sums_stride + v * 16, sum[r][v]);
  }
}

void quad_tile(const QuadArgs& t) {
  constexpr void (*kByRows[])(const QuadArgs&) = {quad_rows<1>, quad_rows<2>, quad_rows<3>,
                                                  quad_rows<4>, quad_rows<5>, quad_rows<6>};
  kByRows[t.rows - 1](t);
}

}  // namespace
