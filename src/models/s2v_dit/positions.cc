#include "models/s2v_dit/positions.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace liveavatar {
namespace {

constexpr double kTheta = 10000.0;
constexpr int64_t kReferenceTime = 30;

// Pairs of a head that turn with the frame, row and column: 22, 21, 21 for a head of 128.
std::array<int64_t, 3> axis_pairs(int64_t head_dim) {
  int64_t pairs = head_dim / 2, third = pairs / 3;
  return {pairs - 2 * third, third, third};
}

// cos and sin of every position on one axis: [positions, pairs, 2].
std::vector<float> axis_turns(std::span<const double> positions, int64_t pairs) {
  std::vector<float> turns;
  turns.reserve(positions.size() * static_cast<size_t>(pairs) * 2);
  for (double position : positions) {
    for (int64_t k = 0; k < pairs; ++k) {
      double angle = position * std::pow(kTheta, -double(2 * k) / double(2 * pairs));
      turns.push_back(static_cast<float>(std::cos(angle)));
      turns.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  return turns;
}

// Writes the grid frames x rows x columns to cos_sin and moves the cursor behind it.
void fill_grid(const DitConfig& config, std::span<const double> frames, std::span<const double> rows,
               std::span<const double> columns, float*& cursor) {
  auto [pf, pr, pc] = axis_pairs(config.head_dim());
  std::vector<float> turn_f = axis_turns(frames, pf), turn_r = axis_turns(rows, pr), turn_c = axis_turns(columns, pc);
  for (size_t f = 0; f < frames.size(); ++f) {
    for (size_t r = 0; r < rows.size(); ++r) {
      for (size_t c = 0; c < columns.size(); ++c) {
        cursor = std::copy_n(turn_f.data() + f * size_t(2 * pf), 2 * pf, cursor);
        cursor = std::copy_n(turn_r.data() + r * size_t(2 * pr), 2 * pr, cursor);
        cursor = std::copy_n(turn_c.data() + c * size_t(2 * pc), 2 * pc, cursor);
      }
    }
  }
}

std::vector<double> range(int64_t first, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(double(first + i));
  return values;
}

// `count` whole positions spread over 0..last-1.
std::vector<double> spread(int64_t last, int64_t count) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(count > 1 ? std::floor(double(i) * double(last - 1) / double(count - 1)) : 0.0);
  return values;
}

}  // namespace

int64_t sink_shift(int64_t start_latent, int64_t relative_dist) {
  return std::max<int64_t>(0, start_latent - (kReferenceTime - relative_dist));
}

void fill_block_positions(const DitConfig& config, const DitGeometry& g, int64_t start_latent, const Tensor& cos_sin) {
  LA_CHECK(cos_sin.elements() == g.block_tokens() * config.head_dim());
  float* cursor = cos_sin.f32();
  fill_grid(config, range(start_latent, g.block_latents), range(0, g.rows()), range(0, g.columns()), cursor);
}

void fill_cond_positions(const DitConfig& config, const DitGeometry& g, int64_t shift, const Tensor& cos_sin) {
  LA_CHECK(cos_sin.elements() == g.cond_tokens() * config.head_dim());
  float* cursor = cos_sin.f32();
  std::vector<double> rows = range(0, g.rows()), columns = range(0, g.columns());
  fill_grid(config, range(kReferenceTime + shift, 1), rows, columns, cursor);
  fill_grid(config, range(-1, 1), rows, columns, cursor);
  fill_grid(config, range(-3, 1), spread(g.rows(), g.latent_height / 4), spread(g.columns(), g.latent_width / 4), cursor);
  const std::vector<double> coarse{-19, -14, -9, -4};
  fill_grid(config, coarse, spread(g.rows(), g.latent_height / 8), spread(g.columns(), g.latent_width / 8), cursor);
}

}  // namespace liveavatar
