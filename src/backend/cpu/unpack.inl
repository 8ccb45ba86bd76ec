// Codes of quantised weights (pack.h) to a bf16 panel. All values are exact in bf16: nothing is rounded here.
namespace {

constexpr long kPairBytes = LA_TILE_COLUMNS * 4;  // of a bf16 panel

template <Vec (*kDecode)(const void*)>
void unpack_8bit(const void* codes, int64_t k, void* panel) {
  const char* p = static_cast<const char*>(codes);
  char* out = static_cast<char*>(panel);
  for (long pair = 0; pair < (k + 1) / 2; ++pair, p += 2 * LA_TILE_COLUMNS, out += kPairBytes) {
    for (long c = 0; c < LA_TILE_COLUMNS; c += Vec::kLanes)
      Vec::store_pairs(kDecode(p + c), kDecode(p + LA_TILE_COLUMNS + c), out + c * 4);
  }
}

void unpack_i8(const void* codes, int64_t k, void* panel) { unpack_8bit<Vec::from_i8>(codes, k, panel); }
void unpack_f8(const void* codes, int64_t k, void* panel) { unpack_8bit<Vec::from_e4m3>(codes, k, panel); }

void unpack_q4(const void* codes, int64_t k, void* panel) {
  constexpr long kBlock = 32;
  const char* p = static_cast<const char*>(codes);
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

}  // namespace
