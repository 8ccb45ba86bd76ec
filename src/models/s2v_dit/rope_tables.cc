#include "models/s2v_dit/rope_tables.h"

#include <algorithm>
#include <cmath>

namespace liveavatar {
namespace {

constexpr double kTheta = 10000.0;
constexpr int64_t kReferenceTime = 30;

// Pairs of a head that rotate with the frame, row and column: 22, 21, 21 for a head of 128.
std::array<int64_t, 3> axis_pairs(int64_t head_dim) {
  int64_t pairs = head_dim / 2, third = pairs / 3;
  return {pairs - 2 * third, third, third};
}

// Positions first + floor(i * rise / run) for i in 0..count-1, in integers: exact, without rounding.
struct Axis {
  int64_t first, count;
  int64_t rise = 1, run = 1;
  double at(int64_t i) const { return static_cast<double>(first + i * rise / run); }
};

// `count` positions spread over 0..last-1, with both ends.
Axis spread(int64_t last, int64_t count) { return count > 1 ? Axis{0, count, last - 1, count - 1} : Axis{0, count, 0}; }

// cos and sin of one axis at one position: [pairs, 2].
void fill_pairs(double position, int64_t pairs, float* out) {
  for (int64_t k = 0; k < pairs; ++k) {
    double angle = position * std::pow(kTheta, -double(2 * k) / double(2 * pairs));
    out[2 * k] = static_cast<float>(std::cos(angle));
    out[2 * k + 1] = static_cast<float>(std::sin(angle));
  }
}

// Writes the grid frames x rows x columns to cursor [tokens, d / 2, 2] and moves the cursor to its end. Each position
// of an axis is computed once, at its first token. The other tokens copy it.
void fill_grid(const DitConfig& config, const Axis& frames, const Axis& rows, const Axis& columns, float*& cursor) {
  auto [pf, pr, pc] = axis_pairs(config.head_dim());
  const int64_t width = config.head_dim();
  float* const grid = cursor;
  auto token = [&](int64_t f, int64_t r, int64_t c) {
    return grid + ((f * rows.count + r) * columns.count + c) * width;
  };
  auto part = [&](bool first, double position, int64_t pairs, const float* source, float* target) {
    if (first) {
      fill_pairs(position, pairs, target);
    } else {
      std::copy_n(source, 2 * pairs, target);
    }
  };
  for (int64_t f = 0; f < frames.count; ++f) {
    for (int64_t r = 0; r < rows.count; ++r) {
      for (int64_t c = 0; c < columns.count; ++c, cursor += width) {
        const int64_t row_at = 2 * pf, column_at = 2 * (pf + pr);
        part(r == 0 && c == 0, frames.at(f), pf, token(f, 0, 0), cursor);
        part(f == 0 && c == 0, rows.at(r), pr, token(0, r, 0) + row_at, cursor + row_at);
        part(f == 0 && r == 0, columns.at(c), pc, token(0, 0, c) + column_at, cursor + column_at);
      }
    }
  }
}

}  // namespace

int64_t sink_shift(int64_t start_latent, int64_t relative_dist) {
  return std::max<int64_t>(0, start_latent - (kReferenceTime - relative_dist));
}

void fill_block_rope(const DitConfig& config, const DitGeometry& g, int64_t start_latent, std::span<float> cos_sin) {
  LA_CHECK(static_cast<int64_t>(cos_sin.size()) == g.block_tokens() * config.head_dim());
  float* cursor = cos_sin.data();
  fill_grid(config, {start_latent, g.block_latents}, {0, g.rows()}, {0, g.columns()}, cursor);
}

void fill_sink_rope(const DitConfig& config, const DitGeometry& g, int64_t shift, std::span<float> cos_sin) {
  LA_CHECK(static_cast<int64_t>(cos_sin.size()) == g.sink_tokens() * config.head_dim());
  float* cursor = cos_sin.data();
  const Axis rows{0, g.rows()}, columns{0, g.columns()};
  fill_grid(config, {kReferenceTime + shift, 1}, rows, columns, cursor);
  fill_grid(config, {-kMotion1x, 1}, rows, columns, cursor);
  const Axis two{-(kMotion1x + kMotion2x), kMotion2x / kPatch2x[0]};
  fill_grid(config, two, spread(g.rows(), g.rows_2x()), spread(g.columns(), g.columns_2x()), cursor);
  const Axis sixteen{-kPackedLatents, kMotion4x / kPatch4x[0], 5};  // -19, -14, -9, -4
  fill_grid(config, sixteen, spread(g.rows(), g.rows_4x()), spread(g.columns(), g.columns_4x()), cursor);
}

}  // namespace liveavatar
