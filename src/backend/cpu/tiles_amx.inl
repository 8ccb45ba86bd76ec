// Eight tile registers of up to 16 rows of 64 bytes (AMX). In assembler, because g++ 12 miscompiles its own
// _tile_loadconfig and does not accept a template argument for a register.
namespace {

struct TileShape {
  int rows[2];  // of the two row tiles that are multiplied together
  int items;    // of a row: 1..16
};

// Registers: accumulators 0 to 3, rows 4 and 5, panel 6 and 7.
struct alignas(64) TileConfig {
  unsigned char palette = 1, start_row = 0, reserved[14] = {};
  unsigned short row_bytes[16] = {};
  unsigned char rows[16] = {};

  explicit TileConfig(const TileShape& s) {
    for (int i = 0; i < 4; ++i) set(i, s.rows[i / 2], 64);
    for (int i = 0; i < 2; ++i) set(4 + i, s.rows[i], 4 * s.items);
    for (int i = 0; i < 2; ++i) set(6 + i, s.items, 64);
  }
  void set(int tile, int count, int bytes) {
    rows[tile] = static_cast<unsigned char>(count > 0 ? count : 1);  // zero is not allowed
    row_bytes[tile] = static_cast<unsigned short>(bytes);
  }
};

struct AmxTiles {
  static void configure(const TileShape& shape) {
    const TileConfig config(shape);
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void release() { asm volatile("tilerelease"); }
  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(T));
  }
  template <int T>
  static void load(const void* p, long stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(T) : "memory");
  }
  // A load of data that need not stay in the L1 cache.
  template <int T>
  static void load_passing(const void* p, long stride) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static void store(void* p, long stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(T) : "memory");
  }
  template <int Sum, int A, int B>
  static void dot_bf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
  }
  template <int Sum, int A, int B>
  static void dot_u8_i8() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(Sum), "i"(A), "i"(B));
  }
};

}  // namespace
