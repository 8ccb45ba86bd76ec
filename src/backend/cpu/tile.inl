// The micro-kernel in f32 multiply-adds: kRows x (kVectors * lanes) accumulators in registers. Operands are f32 or
// bf16. A bf16 panel has pairs (k, k + 1) in 32-bit lanes, [k / 2][columns]. The bf16 dot product reads them directly,
// this kernel splits them.
namespace {

constexpr int kVectors = LA_TILE_COLUMNS / Vec::kLanes;
static_assert(LA_TILE_COLUMNS % Vec::kLanes == 0 && LA_TILE_COLUMNS <= kMostColumns);

struct F32 {
  static constexpr int kBytes = 4;
  static float at(const void* p, long i) { return static_cast<const float*>(p)[i]; }
};
struct BF16 {
  static constexpr int kBytes = 2;
  static float at(const void* p, long i) {
    unsigned u = static_cast<unsigned>(static_cast<const unsigned short*>(p)[i]) << 16;
    float f;
    __builtin_memcpy(&f, &u, 4);
    return f;
  }
};

// One k of a pair. If the other operand has pairs too, one load broadcasts a pair to every lane, where it is split:
// much cheaper than converting single values.
template <typename A, bool kPairs, bool kOdd, int R, int V>
inline void step(const void* const* a, long k, const Vec (&b)[V], Vec (&sum)[R][V]) {
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
    Vec x;
    if constexpr (kPairs && A::kBytes == 2) {
      const char* pair = static_cast<const char*>(a[r]) + 2 * (k - kOdd);
      x = kOdd ? Vec::odd_of_pair(pair) : Vec::even_of_pair(pair);
    } else {
      x = Vec::set(A::at(a[r], k));
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v] = Vec::fma(x, b[v], sum[r][v]);
  }
}

inline long stride_of(const TileArgs& t) { return t.stride != 0 ? t.stride : LA_TILE_COLUMNS; }

template <typename A, bool kPairs, int R, int V = kVectors>
void tile_rows(const TileArgs& t) {
  const long stride = stride_of(t);
  Vec sum[R][V];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      sum[r][v] = t.accumulate ? Vec::load(t.acc + r * stride + v * Vec::kLanes) : Vec::zero();
  }
  const char* b = static_cast<const char*>(t.b);
  constexpr long kBytes = LA_TILE_COLUMNS * 4;  // of one k in f32, of a pair in bf16
  for (long tap = 0; tap < t.taps; ++tap) {
    const void* a[R];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) a[r] = t.a[tap * R + r];
    for (long k = 0; k < t.k; k += kPairs ? 2 : 1, b += kBytes) {
      Vec w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const char* p = b + v * Vec::kLanes * 4;
        w[v] = kPairs ? Vec::even_bf16(p) : Vec::load(reinterpret_cast<const float*>(p));
      }
      step<A, kPairs, false>(a, k, w, sum);
      if (!kPairs || k + 1 == t.k) continue;
      asm volatile("" ::: "memory");  // load again: accumulators need all registers, and operands would be spilled
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = Vec::odd_bf16(b + v * Vec::kLanes * 4);
      step<A, kPairs, true>(a, k + 1, w, sum);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[r][v].store(t.acc + r * stride + v * Vec::kLanes);
  }
}

template <typename A, bool kPairs>
void tile(const TileArgs& t) {
  switch (t.rows) {
    case 1:
      return tile_rows<A, kPairs, 1>(t);
    case 2:
      return tile_rows<A, kPairs, 2>(t);
    case 3:
      return tile_rows<A, kPairs, 3>(t);
    case 4:
      return tile_rows<A, kPairs, 4>(t);
    case 5:
      return tile_rows<A, kPairs, 5>(t);
    default:  // special cases for few columns pay off only here; a column's sum is the same in each
      if (t.columns <= Vec::kLanes) return tile_rows<A, kPairs, 6, 1>(t);
      if (t.columns <= 2 * Vec::kLanes) return tile_rows < A, kPairs, 6, 2 < kVectors ? 2 : kVectors > (t);
      if (t.columns <= 3 * Vec::kLanes) return tile_rows < A, kPairs, 6, 3 < kVectors ? 3 : kVectors > (t);
      return tile_rows<A, kPairs, 6>(t);
  }
}

}  // namespace
