// The micro-kernel on tile registers: two by two tiles of accumulators, so that every operand is used twice.
namespace {

constexpr long kPanelRow = LA_TILE_COLUMNS * 4;  // bytes of an item of all columns
constexpr long kTileRows = kMatrixRows / 2;

// Chunks [first, last) of each tap's rows, with `items` items each.
struct Chunks {
  long first, last;
  int items;
};

template <typename Tiles, bool kInt8, int Sum, int A, int B>
inline void dot() {
  if constexpr (kInt8) {
    Tiles::template dot_u8_i8<Sum, A, B>();
  } else {
    Tiles::template dot_bf16<Sum, A, B>();
  }
}

template <typename Tiles, int R, int V>
inline void load_acc(const char* acc, long row_bytes, bool accumulate) {
  if (!accumulate) {
    Tiles::template zero<0>();
    if constexpr (V == 2) Tiles::template zero<1>();
    if constexpr (R == 2) Tiles::template zero<2>();
    if constexpr (R == 2 && V == 2) Tiles::template zero<3>();
    return;
  }
  Tiles::template load<0>(acc, row_bytes);
  if constexpr (V == 2) Tiles::template load<1>(acc + 64, row_bytes);
  acc += kTileRows * row_bytes;
  if constexpr (R == 2) Tiles::template load<2>(acc, row_bytes);
  if constexpr (R == 2 && V == 2) Tiles::template load<3>(acc + 64, row_bytes);
}

template <typename Tiles, int R, int V>
inline void store_acc(char* acc, long row_bytes) {
  Tiles::template store<0>(acc, row_bytes);
  if constexpr (V == 2) Tiles::template store<1>(acc + 64, row_bytes);
  acc += kTileRows * row_bytes;
  if constexpr (R == 2) Tiles::template store<2>(acc, row_bytes);
  if constexpr (R == 2 && V == 2) Tiles::template store<3>(acc + 64, row_bytes);
}

// Rows from `row`: one or two tiles of rows times one or two tiles of columns.
template <typename Tiles, bool kInt8, int R, int V>
void multiply(const MatrixArgs& t, long row, const Chunks& pieces, bool accumulate) {
  const long row_bytes = t.stride != 0 ? t.stride * 4 : kPanelRow;
  char* acc = static_cast<char*>(t.acc) + row * row_bytes;
  load_acc<Tiles, R, V>(acc, row_bytes, accumulate);
  for (long tap = 0; tap < t.taps; ++tap) {
    const char* a = static_cast<const char*>(t.a[tap]) + row * t.row_bytes + pieces.first * t.chunk_bytes;
    const char* b = static_cast<const char*>(t.b) + (tap * t.items + pieces.first * kChunkItems) * kPanelRow;
    for (long i = pieces.first; i < pieces.last; ++i, a += t.chunk_bytes, b += kChunkItems * kPanelRow) {
      Tiles::template load<6>(b, kPanelRow);
      Tiles::template load_passing<4>(a, t.row_bytes);
      dot<Tiles, kInt8, 0, 4, 6>();
      if constexpr (V == 2) {
        Tiles::template load<7>(b + 64, kPanelRow);
        dot<Tiles, kInt8, 1, 4, 7>();
      }
      if constexpr (R == 2) {
        Tiles::template load_passing<5>(a + kTileRows * t.row_bytes, t.row_bytes);
        dot<Tiles, kInt8, 2, 5, 6>();
        if constexpr (V == 2) dot<Tiles, kInt8, 3, 5, 7>();
      }
    }
  }
  store_acc<Tiles, R, V>(acc, row_bytes);
}

// Prefetches the part of args.prefetch for rows [row, row + kMatrixRows).
inline void prefetch_rows(const MatrixArgs& t, long row) {
  for (int i = 0; i < 2; ++i) {
    const char* from = static_cast<const char*>(t.prefetch[i]);
    long end = t.prefetch_bytes[i] * (row + kMatrixRows < t.rows ? row + kMatrixRows : t.rows) / t.rows;
    for (long at = t.prefetch_bytes[i] * row / t.rows; at < end; at += 64) _mm_prefetch(from + at, _MM_HINT_T1);
  }
}

template <typename Tiles, bool kInt8, int V>
void multiply_rows(const MatrixArgs& t, const Chunks& pieces, bool accumulate) {
  long configured = 0;
  for (long row = 0; row < t.rows; row += kMatrixRows) {
    long count = t.rows - row < kMatrixRows ? t.rows - row : kMatrixRows;
    if (count != configured) {
      long low = count < kTileRows ? count : kTileRows;
      Tiles::configure({{static_cast<int>(low), static_cast<int>(count - low)}, pieces.items});
      configured = count;
    }
    if (pieces.first == 0) prefetch_rows(t, row);
    if (count > kTileRows) {
      multiply<Tiles, kInt8, 2, V>(t, row, pieces, accumulate);
    } else {
      multiply<Tiles, kInt8, 1, V>(t, row, pieces, accumulate);
    }
  }
}

template <typename Tiles, bool kInt8>
void matrix(const MatrixArgs& t) {
  auto by_columns = t.columns > 16 ? multiply_rows<Tiles, kInt8, 2> : multiply_rows<Tiles, kInt8, 1>;
  long whole = t.items / kChunkItems;
  int rest = static_cast<int>(t.items % kChunkItems);
  if (whole > 0) by_columns(t, {0, whole, kChunkItems}, t.accumulate);
  if (rest > 0) by_columns(t, {whole, whole + 1, rest}, t.accumulate || whole > 0);
  Tiles::release();
}

}  // namespace
