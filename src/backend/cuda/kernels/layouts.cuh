// Other orders of the same elements: video to tokens of patches and back, channels first to channels last and back.
#pragma once

#include "backend/cuda/kernels/indices.cuh"

namespace liveavatar::cuda::LA_CUDA_VARIANT {

struct PatchArgs {
  int64_t elements;                     // of all tokens
  int channels, frames, rows, columns;  // of the video
  int pf, ph, pw;
  bool channel_first;  // in a token, else channel last
};

// Where the element of the tokens at `at` lies in the video [channels, frames, rows, columns].
LA_DEVICE int64_t video_offset(const PatchArgs& a, int64_t at) {
  const int patch = a.pf * a.ph * a.pw, down = a.rows / a.ph, across = a.columns / a.pw;
  const Division place = divide(at, a.channels * patch);
  const int token = int(place.quotient), feature = int(place.remainder);
  const int channel = a.channel_first ? feature / patch : feature % a.channels;
  const int in_patch = a.channel_first ? feature % patch : feature / a.channels;
  const int frame = token / across / down * a.pf + in_patch / a.pw / a.ph;
  const int row = token / across % down * a.ph + in_patch / a.pw % a.ph;
  const int column = token % across * a.pw + in_patch % a.pw;
  return ((int64_t(channel) * a.frames + frame) * a.rows + row) * a.columns + column;
}

// video [channels, frames, rows, columns], tokens [(frames/pf) * (rows/ph) * (columns/pw), channels * pf * ph * pw].
// A thread moves one element of the tokens, so that one side at least is whole lines.
template <typename In, typename Out>
__global__ void __launch_bounds__(kElementThreads)
    video_to_tokens(const In* video, LA_PARAMETER PatchArgs a, Out* tokens) {
  const int64_t at = thread_of_grid();
  if (at >= a.elements) return;
  put(tokens + at, to_float(video[video_offset(a, at)]));
}
template <typename In, typename Out>
__global__ void __launch_bounds__(kElementThreads)
    tokens_to_video(const In* tokens, LA_PARAMETER PatchArgs a, Out* video) {
  const int64_t at = thread_of_grid();
  if (at >= a.elements) return;
  put(video + video_offset(a, at), to_float(tokens[at]));
}

struct TransposeArgs {
  const float *scale, *shift;  // each optional [channels]
  int64_t pixels;
  int channels, channel_tiles;
  bool channels_last;  // of out
};

// A block moves a tile of kChannels x kPixels elements.
template <int kChannels_, int kPixels_>
struct TransposeShape {
  static constexpr int kThreads = 256, kChannels = kChannels_, kPixels = kPixels_;
  static constexpr int kStride = kPixels + 1;  // odd: pixels as well as channels of a tile lie in different banks
};
using SquareTranspose = TransposeShape<32, 32>;
using FlatTranspose = TransposeShape<16, 128>;  // few channels, as of images and latents

// What of the matrix lies in this block's tile.
struct TransposeTile {
  int64_t first_pixel;
  int first_channel, pixels, channels;
};
template <typename S>
LA_DEVICE TransposeTile transpose_tile(const TransposeArgs& a) {
  const int64_t pixel = int64_t(blockIdx.x / unsigned(a.channel_tiles)) * S::kPixels;
  const int channel = int(blockIdx.x % unsigned(a.channel_tiles)) * S::kChannels;
  const int64_t pixels = a.pixels - pixel, channels = a.channels - channel;
  return {pixel, channel, int(pixels < S::kPixels ? pixels : S::kPixels),
          int(channels < S::kChannels ? channels : S::kChannels)};
}

// Element `at` of the tile, counted in the order of a matrix with its channels first or last.
struct TransposePlace {
  int channel, pixel;  // of the tile
  int64_t offset;      // in the matrix
};
LA_DEVICE TransposePlace transpose_place(const TransposeArgs& a, const TransposeTile& t, bool channels_last, int at) {
  if (channels_last) {
    const int pixel = at / t.channels, channel = at % t.channels;
    return {channel, pixel, (t.first_pixel + pixel) * a.channels + t.first_channel + channel};
  }
  const int channel = at / t.pixels, pixel = at % t.pixels;
  return {channel, pixel, (t.first_channel + channel) * a.pixels + t.first_pixel + pixel};
}

// x [channels, pixels] -> out [pixels, channels], or the other way round. Neighbouring threads read neighbours of x and
// write neighbours of out.
template <typename S, typename In, typename Out>
__global__ void __launch_bounds__(S::kThreads) transpose(const In* x, LA_PARAMETER TransposeArgs a, Out* out) {
  using Values = float[S::kChannels * S::kStride];
  LA_SHARED(Values, values);
  const TransposeTile tile = transpose_tile<S>(a);
  const int elements = tile.channels * tile.pixels;
  for (int at = int(threadIdx.x); at < elements; at += S::kThreads) {
    const TransposePlace from = transpose_place(a, tile, !a.channels_last, at);
    values[from.channel * S::kStride + from.pixel] = to_float(x[from.offset]);
  }
  sync_threads();
  for (int at = int(threadIdx.x); at < elements; at += S::kThreads) {
    const TransposePlace to = transpose_place(a, tile, a.channels_last, at);
    float y = values[to.channel * S::kStride + to.pixel];
    if (a.scale != nullptr) y *= a.scale[tile.first_channel + to.channel];
    if (a.shift != nullptr) y += a.shift[tile.first_channel + to.channel];
    put(out + to.offset, y);
  }
}

}  // namespace liveavatar::cuda::LA_CUDA_VARIANT
