// Quantised weights (pack.h) to a bf16 panel. All values are exact in bf16: no rounding.
namespace {

constexpr long kPairBytes = LA_TILE_COLUMNS * 4;  // of a bf16 panel

template <Vec (*kDecode)(const void*)>
void unpack_8bit(const void* quantised, int64_t k, void* panel) {
  const char* p = static_cast<const char*>(quantised);
  char* out = static_cast<char*>(panel);
  for (long pair = 0; pair < (k + 1) / 2; ++pair, p += 2 * LA_TILE_COLUMNS, out += kPairBytes) {
    for (long c = 0; c < LA_TILE_COLUMNS; c += Vec::kLanes)
      Vec::store_pairs(kDecode(p + c), kDecode(p + LA_TILE_COLUMNS + c), out + c * 4);
  }
}

void unpack_i8(const void* quantised, int64_t k, void* panel) { unpack_8bit<Vec::from_i8>(quantised, k, panel); }
void unpack_f8(const void* quantised, int64_t k, void* panel) { unpack_8bit<Vec::from_e4m3>(quantised, k, panel); }

void unpack_q4(const void* quantised, int64_t k, void* panel) {
  constexpr long kBlock = 32;
  const char* p = static_cast<const char*>(quantised);
  char* out = static_cast<char*>(panel);
  for (long first = 0; first < k; first += kBlock) {
    const unsigned short* scales = reinterpret_cast<const unsigned short*>(p);
    long pairs = (k - first < kBlock ? k - first + 1 : kBlock) / 2;
    p += 2 * LA_TILE_COLUMNS;
    for (long c = 0; c < LA_TILE_COLUMNS; c += Vec::kLanes) {
      Vec scale = Vec::load_bf16(scales + c);
      for (long pair = 0; pair < pairs; ++pair) {
        const char* from = p + pair * LA_TILE_COLUMNS + c;
        Vec::store_pairs(Vec::from_low_half(from) * scale, Vec::from_high_half(from) * scale,
                         out + pair * kPairBytes + c * 4);
      }
    }
    p += kBlock / 2 * LA_TILE_COLUMNS;
    out += pairs * kPairBytes;
  }
}

// Quantised values of one row times its scale.
template <Vec (*kDecode)(const void*)>
void decode(const void* quantised, int64_t n, float scale, void* out, Type out_type) {
  const char* p = static_cast<const char*>(quantised);
  for (long i = 0; i < n; i += Vec::kLanes) {
    char part[Vec::kLanes] = {};
    if (n - i < Vec::kLanes) __builtin_memcpy(part, p + i, static_cast<unsigned long>(n - i));
    store_vec(kDecode(n - i < Vec::kLanes ? part : p + i) * Vec::set(scale), out, out_type, i, n - i);
  }
}

// As many rows as a vector has lanes.
inline void transpose_rows(const float* const* rows, long n, float* out, long stride) {
  Vec m[Vec::kLanes];
  if (Vec::transpose_short(rows, n, m)) {
    for (long j = 0; j < n; ++j) m[j].store(out + j * stride);
    return;
  }
  for (long i = 0; i < n; i += Vec::kLanes) {
#pragma GCC unroll 16
    for (int r = 0; r < Vec::kLanes; ++r) m[r] = load_f32(rows[r], i, n - i);
    Vec::transpose(m);
#pragma GCC unroll 16
    for (int j = 0; j < Vec::kLanes; ++j) {
      if (i + j < n) m[j].store(out + (i + j) * stride);
    }
  }
}

void transpose(const void* const* rows, int count, int64_t n, void* out, int64_t stride) {
  for (int first = 0; first < count; first += Vec::kLanes)
    transpose_rows(reinterpret_cast<const float* const*>(rows + first), n, static_cast<float*>(out) + first, stride);
}

// n columns of rows k and k + 1 as a bf16 panel's pairs; zeros for a null row and after column n.
void zip(const void* even, const void* odd, int64_t n, void* pairs) {
  for (long c = 0; c < LA_TILE_COLUMNS; c += Vec::kLanes) {
    Vec low = c < n ? load_vec(even, Type::kBF16, c, n - c) : Vec::zero();
    Vec high = c < n && odd ? load_vec(odd, Type::kBF16, c, n - c) : Vec::zero();
    Vec::store_pairs(low, high, static_cast<char*>(pairs) + c * 4);
  }
}

}  // namespace
