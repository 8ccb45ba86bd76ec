// Products of 8-bit values (int8.inl) with AVX512-VNNI, four in each lane.
namespace {

static_assert(LA_TILE_COLUMNS == 64, "four vectors of accumulators");

// int8 values of k inputs (pack.h) as [k / 4][columns][4]; offsets[column] += 128 * their sum.
void groups_i8(const void* quantised, int64_t k, void* groups_of_4, int* offsets) {
  const char* from = static_cast<const char*>(quantised);
  char* to = static_cast<char*>(groups_of_4);
  const __m512i middle = _mm512_set1_epi8(static_cast<char>(128));
  __m512i sum[4];
  for (int v = 0; v < 4; ++v) sum[v] = _mm512_loadu_si512(offsets + 16 * v);
  const long rows = (k + 1) / 2 * 2;
  for (long row = 0; row < k; row += 4, from += 256, to += 256) {
    auto row_of = [&](long r) { return row + r < rows ? _mm512_loadu_si512(from + 64 * r) : _mm512_setzero_si512(); };
    __m512i a = row_of(0), b = row_of(1), c = row_of(2), d = row_of(3);
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
void int8_rows(const Int8TileArgs& t) {
  __m512i sum[R][4];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v)
      sum[r][v] = t.accumulate ? _mm512_loadu_si512(t.acc + r * t.acc_stride + v * 16) : _mm512_setzero_si512();
  }
  const char* b = static_cast<const char*>(t.b);
  for (long group = 0; group < t.groups_of_4; ++group, b += 256) {
    __m512i w[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) w[v] = _mm512_loadu_si512(b + 64 * v);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      int bits;
      __builtin_memcpy(&bits, t.a + r * t.stride + 4 * group, 4);
      __m512i x = _mm512_set1_epi32(bits);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], x, w[v]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) _mm512_storeu_si512(t.acc + r * t.acc_stride + v * 16, sum[r][v]);
  }
}

void int8_tile(const Int8TileArgs& t) {
  constexpr void (*kByRows[])(const Int8TileArgs&) = {int8_rows<1>, int8_rows<2>, int8_rows<3>,
                                                      int8_rows<4>, int8_rows<5>, int8_rows<6>};
  kByRows[t.rows - 1](t);
}

}  // namespace
