// A block of rows times a panel on tile registers: two by two tiles of sums, so that every operand serves two products.
namespace {

constexpr long kPanelRow = LA_TILE_COLUMNS * 4;  // bytes of an item of all columns
constexpr long kTileRows = kMatrixRows / 2;

// Pieces [first, last) of each tap's rows, `items` of each.
struct Pieces {
  long first, last;
  int items;
};

template <typename Tiles, bool kCodes, int Sum, int A, int B>
inline void dot() {
  if constexpr (kCodes) {
    Tiles::template dot_u8_i8<Sum, A, B>();
  } else {
    Tiles::template dot_bf16<Sum, A, B>();
  }
}

template <typename Tiles, int R, int V>
inline void load_sums(const char* sums, long row_bytes, bool more) {
  if (!more) {
    Tiles::template zero<0>();
    if constexpr (V == 2) Tiles::template zero<1>();
    if constexpr (R == 2) Tiles::template zero<2>();
    if constexpr (R == 2 && V == 2) Tiles::template zero<3>();
    return;
  }
  Tiles::template load<0>(sums, row_bytes);
  if constexpr (V == 2) Tiles::template load<1>(sums + 64, row_bytes);
  sums += kTileRows * row_bytes;
  if constexpr (R == 2) Tiles::template load<2>(sums, row_bytes);
  if constexpr (R == 2 && V == 2) Tiles::template load<3>(sums + 64, row_bytes);
}

template <typename Tiles, int R, int V>
inline void store_sums(char* sums, long row_bytes) {
  Tiles::template store<0>(sums, row_bytes);
  if constexpr (V == 2) Tiles::template store<1>(sums + 64, row_bytes);
  sums += kTileRows * row_bytes;
  if constexpr (R == 2) Tiles::template store<2>(sums, row_bytes);
  if constexpr (R == 2 && V == 2) Tiles::template store<3>(sums + 64, row_bytes);
}

// Rows from `row`: one tile of them or two, by one tile of columns or two.
template <typename Tiles, bool kCodes, int R, int V>
void multiply(const MatrixArgs& t, long row, const Pieces& pieces, bool more) {
  const long row_bytes = t.stride != 0 ? t.stride * 4 : kPanelRow;
  char* sums = static_cast<char*>(t.sums) + row * row_bytes;
  load_sums<Tiles, R, V>(sums, row_bytes, more);
  for (long tap = 0; tap < t.taps; ++tap) {
    const char* a = static_cast<const char*>(t.a[tap]) + row * t.row_bytes + pieces.first * t.piece_bytes;
    const char* b = static_cast<const char*>(t.b) + (tap * t.items + pieces.first * kPieceItems) * kPanelRow;
    for (long i = pieces.first; i < pieces.last; ++i, a += t.piece_bytes, b += kPieceItems * kPanelRow) {
      Tiles::template load<6>(b, kPanelRow);
      Tiles::template load_passing<4>(a, t.row_bytes);
      dot<Tiles, kCodes, 0, 4, 6>();
      if constexpr (V == 2) {
        Tiles::template load<7>(b + 64, kPanelRow);
        dot<Tiles, kCodes, 1, 4, 7>();
      }
      if constexpr (R == 2) {
        Tiles::template load_passing<5>(a + kTileRows * t.row_bytes, t.row_bytes);
        dot<Tiles, kCodes, 2, 5, 6>();
        if constexpr (V == 2) dot<Tiles, kCodes, 3, 5, 7>();
      }
    }
  }
  store_sums<Tiles, R, V>(sums, row_bytes);
}

// The part of what comes soon that falls to rows [row, row + kMatrixRows).
inline void bring_soon(const MatrixArgs& t, long row) {
  for (int i = 0; i < 2; ++i) {
    const char* from = static_cast<const char*>(t.soon[i]);
    long end = t.soon_bytes[i] * (row + kMatrixRows < t.rows ? row + kMatrixRows : t.rows) / t.rows;
    for (long at = t.soon_bytes[i] * row / t.rows; at < end; at += 64) _mm_prefetch(from + at, _MM_HINT_T1);
  }
}

template <typename Tiles, bool kCodes, int V>
void multiply_rows(const MatrixArgs& t, const Pieces& pieces, bool more) {
  long configured = 0;
  for (long row = 0; row < t.rows; row += kMatrixRows) {
    long count = t.rows - row < kMatrixRows ? t.rows - row : kMatrixRows;
    if (count != configured) {
      long low = count < kTileRows ? count : kTileRows;
      Tiles::configure({{static_cast<int>(low), static_cast<int>(count - low)}, pieces.items});
      configured = count;
    }
    if (pieces.first == 0) bring_soon(t, row);
    if (count > kTileRows) {
      multiply<Tiles, kCodes, 2, V>(t, row, pieces, more);
    } else {
      multiply<Tiles, kCodes, 1, V>(t, row, pieces, more);
    }
  }
}

template <typename Tiles, bool kCodes>
void matrix(const MatrixArgs& t) {
  auto by_columns = t.columns > 16 ? multiply_rows<Tiles, kCodes, 2> : multiply_rows<Tiles, kCodes, 1>;
  long whole = t.items / kPieceItems;
  int rest = static_cast<int>(t.items % kPieceItems);
  if (whole > 0) by_columns(t, {0, whole, kPieceItems}, t.more);
  if (rest > 0) by_columns(t, {whole, whole + 1, rest}, t.more || whole > 0);
  Tiles::release();
}

}  // namespace
