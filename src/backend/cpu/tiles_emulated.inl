// Emulates the AMX tiles of tiles_amx.inl with AVX-512, instruction by instruction, so that the code around them can be
// tested without AMX. bf16 sums are as in the processor's manual: even and odd k are summed separately within a product
// and added to the accumulator at its end. Unlike AMX, denormals are not flushed.
namespace {

struct EmulatedTiles {
  struct Tile {
    int rows = 0, bytes = 0;
    alignas(64) char data[16][64] = {};
  };
  static Tile& tile(int i) {
    static thread_local Tile tiles[8];
    return tiles[i];
  }

  static void configure(const TileShape& shape) {
    const TileConfig config(shape);
    for (int i = 0; i < 8; ++i) tile(i) = {config.rows[i], config.row_bytes[i]};
  }
  static void release() {}
  template <int T>
  static void zero() {
    __builtin_memset(tile(T).data, 0, sizeof(Tile::data));
  }
  template <int T>
  static void load(const void* p, long stride) {
    Tile& t = tile(T);
    zero<T>();
    for (int r = 0; r < t.rows; ++r)
      __builtin_memcpy(t.data[r], static_cast<const char*>(p) + r * stride, static_cast<unsigned long>(t.bytes));
  }
  template <int T>
  static void load_passing(const void* p, long stride) {
    load<T>(p, stride);
  }
  template <int T>
  static void store(void* p, long stride) {
    const Tile& t = tile(T);
    for (int r = 0; r < t.rows; ++r)
      __builtin_memcpy(static_cast<char*>(p) + r * stride, t.data[r], static_cast<unsigned long>(t.bytes));
  }
  template <int Sum, int A, int B>
  static void dot_bf16() {
    Tile &sum = tile(Sum), &a = tile(A), &b = tile(B);
    for (int r = 0; r < sum.rows; ++r) {
      Vec even = Vec::zero(), odd = Vec::zero();
      for (int i = 0; i < a.bytes / 4; ++i) {
        even = Vec::fma(Vec::even_of_pair(a.data[r] + 4 * i), Vec::even_bf16(b.data[i]), even);
        odd = Vec::fma(Vec::odd_of_pair(a.data[r] + 4 * i), Vec::odd_bf16(b.data[i]), odd);
      }
      float* to = reinterpret_cast<float*>(sum.data[r]);
      (Vec::load(to) + (even + odd)).store(to);
    }
  }
  template <int Sum, int A, int B>
  static void dot_u8_i8() {
    Tile &sum = tile(Sum), &a = tile(A), &b = tile(B);
    for (int r = 0; r < sum.rows; ++r) {
      __m512i total = _mm512_load_si512(sum.data[r]);
      for (int i = 0; i < a.bytes / 4; ++i)
        total = _mm512_dpbusd_epi32(total, Vec::pair(a.data[r] + 4 * i), _mm512_load_si512(b.data[i]));
      _mm512_store_si512(sum.data[r], total);
    }
  }
};

}  // namespace
