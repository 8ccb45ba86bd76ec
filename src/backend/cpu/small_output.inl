// Convolution with a small number of output channels: lanes are neighbouring pixels, weights are broadcast.
namespace {

constexpr int kSmallOutputChannels = Vec::kLanes / 2;

template <Vec (*kMultiplyAdd)(Vec, Vec, Vec), int C, int V>
void small_output_tile(const SmallOutputArgs& t, int channel) {
  Vec sum[C][V];
#pragma GCC unroll 8
  for (int c = 0; c < C; ++c) {
#pragma GCC unroll 6
    for (int v = 0; v < V; ++v) sum[c][v] = Vec::zero();
  }
  const float* w = t.weights + channel;
  for (long line = 0; line < t.line_count; ++line) {
    for (long column = 0; column < t.columns; ++column) {
      const float* from = t.lines[line] + t.first + column;
      for (long i = 0; i < t.items; ++i, from += t.pitch, w += t.channels) {
        Vec x[V];
#pragma GCC unroll 6
        for (int v = 0; v < V; ++v) x[v] = Vec::load(from + v * Vec::kLanes);
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) {
          Vec weight = Vec::set(w[c]);
#pragma GCC unroll 6
          for (int v = 0; v < V; ++v) sum[c][v] = kMultiplyAdd(x[v], weight, sum[c][v]);
        }
      }
    }
  }
  float* to = t.acc + channel;  // if n is less than half a vector, the next pixel overwrites the excess
#pragma GCC unroll 6
  for (int v = 0; v < V; ++v) {
    Vec m[Vec::kLanes];
#pragma GCC unroll 16
    for (int c = 0; c < Vec::kLanes; ++c) m[c] = c < C ? sum[c % C][v] : Vec::zero();
    Vec::transpose(m);
#pragma GCC unroll 16
    for (int p = 0; p < Vec::kLanes; ++p, to += t.n) m[p].store_half(to);
  }
}

template <Vec (*kMultiplyAdd)(Vec, Vec, Vec)>
void small_output(const SmallOutputArgs& t) {
  if (t.channels < kSmallOutputChannels) {
    constexpr int kFew = kSmallOutputFew < kSmallOutputChannels ? kSmallOutputFew : kSmallOutputChannels;
    constexpr int kMore = kSmallOutputVectors * kSmallOutputChannels / kFew;
    if (t.pixels > kSmallOutputVectors * Vec::kLanes) return small_output_tile<kMultiplyAdd, kFew, kMore>(t, 0);
    return small_output_tile<kMultiplyAdd, kFew, kSmallOutputVectors>(t, 0);
  }
  for (int channel = 0; channel < t.n; channel += kSmallOutputChannels) {
    if (t.pixels > 2 * Vec::kLanes) {
      small_output_tile<kMultiplyAdd, kSmallOutputChannels, 3>(t, channel);
    } else if (t.pixels > Vec::kLanes) {
      small_output_tile<kMultiplyAdd, kSmallOutputChannels, 2>(t, channel);
    } else {
      small_output_tile<kMultiplyAdd, kSmallOutputChannels, 1>(t, channel);
    }
  }
}

}  // namespace
