// Convolution with few output channels: a vector holds one item of neighbouring pixels, a weight goes to all lanes.
namespace {

constexpr int kNarrowChannels = Vec::kLanes / 2;

template <Vec (*kMultiplyAdd)(Vec, Vec, Vec), int C, int V>
void narrow_tile(const NarrowArgs& t, int channel) {
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
  float* to = t.sums + channel;  // where n is less than a half, the next pixel covers what is too much
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
void narrow(const NarrowArgs& t) {
  if (t.channels < kNarrowChannels) {
    constexpr int kFew = kNarrowFew < kNarrowChannels ? kNarrowFew : kNarrowChannels;
    constexpr int kMore = kNarrowVectors * kNarrowChannels / kFew;
    if (t.pixels > kNarrowVectors * Vec::kLanes) return narrow_tile<kMultiplyAdd, kFew, kMore>(t, 0);
    return narrow_tile<kMultiplyAdd, kFew, kNarrowVectors>(t, 0);
  }
  for (int channel = 0; channel < t.n; channel += kNarrowChannels) {
    if (t.pixels > 2 * Vec::kLanes) {
      narrow_tile<kMultiplyAdd, kNarrowChannels, 3>(t, channel);
    } else if (t.pixels > Vec::kLanes) {
      narrow_tile<kMultiplyAdd, kNarrowChannels, 2>(t, channel);
    } else {
      narrow_tile<kMultiplyAdd, kNarrowChannels, 1>(t, channel);
    }
  }
}

}  // namespace
