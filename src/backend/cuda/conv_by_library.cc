#include "backend/cuda/conv_by_library.h"

namespace liveavatar::cuda {
namespace {

constexpr int64_t kItem = 2;  // bytes of bf16

int64_t frame_bytes(const ConvClass& c) {
  return c.rows * c.columns * c.in_channels * kItem;
}  // as the library reads it
int64_t input_frames(const ConvClass& c) { return c.past_frames() + c.part_frames(); }

class PartsOfConv {
 public:
  PartsOfConv(const ConvClass& c, const ConvCall& call, std::byte* scratch, CudaDevice& device, void* stream)
      : class_(c), call_(call), scratch_(scratch), device_(device), stream_(stream) {}

  // That of out's frames from `first` on.
  LibraryConv part(int64_t first) const {
    LibraryConv p = part_of(class_);
    p.x = input(first);
    p.w = call_.w.data;
    p.out =
        static_cast<std::byte*>(call_.out.data) + first * class_.rows * class_.columns * class_.out_channels * kItem;
    p.workspace = scratch_;
    return p;
  }

  // It is rounded once more than by our kernel: product and residual come in bf16.
  void add_bias() const {
    const EpilogueCall& e = call_.epilogue;
    const int64_t elements = class_.frames * class_.rows * class_.columns * class_.out_channels;
    const Input so_far{call_.out.data, call_.out.type};
    const BinaryCall add{so_far, {e.bias, ElementType::kF32}, elements, class_.out_channels, false, 1, call_.out};
    device_.check(device_.runtime().kernels().binary(add, stream_), "a bias");
  }

 private:
  // [input_frames, rows, columns, in_channels]; as long as no other is asked for.
  const void* input(int64_t first) const {
    const std::byte* x = static_cast<const std::byte*>(call_.x.data);
    std::byte* copy = scratch_ + kConvWorkspaceBytes;
    if (class_.upsample2x) {
      double_size(x + first * frame_bytes(class_) / 4, copy);
      return copy;
    }
    const int64_t past_bytes = class_.past_frames() * frame_bytes(class_);
    if (first > 0 || past_bytes == 0) return x + first * frame_bytes(class_) - past_bytes;
    copy_rows({call_.history.data, copy, past_bytes, past_bytes, 1, past_bytes});
    const int64_t rest_bytes = class_.part_frames() * frame_bytes(class_);
    copy_rows({x, copy + past_bytes, rest_bytes, rest_bytes, 1, rest_bytes});
    return copy;
  }

  // A frame [rows / 2, columns / 2, in_channels] of x: every row twice, behind where out will be, then every column.
  void double_size(const std::byte* x, std::byte* out) const {
    std::byte* tall = out + frame_bytes(class_);
    const int64_t row = class_.columns / 2 * class_.in_channels * kItem, pixel = class_.in_channels * kItem;
    const int64_t rows = class_.rows / 2, pixels = class_.rows * class_.columns / 2;
    for (int64_t i : {0, 1}) copy_rows({x, tall + i * row, row, 2 * row, rows, row});
    for (int64_t i : {0, 1}) copy_rows({tall, out + i * pixel, pixel, 2 * pixel, pixels, pixel});
  }

  void copy_rows(const CopyRowsCall& c) const {
    device_.check(device_.runtime().kernels().copy_rows(c, stream_), "an input of a library");
  }

  const ConvClass& class_;
  const ConvCall& call_;
  std::byte* scratch_;
  CudaDevice& device_;
  void* stream_;
};

}  // namespace

LibraryConv part_of(const ConvClass& c) {
  LibraryConv p{};
  p.frames = input_frames(c);
  p.rows = c.rows;
  p.columns = c.columns;
  p.in_channels = c.in_channels;
  p.out_channels = c.out_channels;
  for (size_t i = 0; i < c.kernel.size(); ++i) p.kernel[i] = c.kernel[i];
  p.adds = c.residual;
  return p;
}

size_t library_scratch_bytes(const ConvClass& c) {
  int64_t input_bytes = 0;
  if (c.upsample2x) input_bytes = frame_bytes(c) + frame_bytes(c) / 2;
  if (c.past_frames() > 0) input_bytes = input_frames(c) * frame_bytes(c);
  return kConvWorkspaceBytes + static_cast<size_t>(input_bytes);
}

Status enqueue_by_library(ConvLibrary& library, const ConvClass& c, const ConvCall& call, std::byte* scratch,
                          CudaDevice& device, void* stream) {
  const PartsOfConv parts(c, call, scratch, device, stream);
  for (int64_t first = 0; first < c.frames; first += c.part_frames()) {
    const Status status = library.enqueue(parts.part(first), stream);
    if (status.ok()) continue;
    if (first == 0) return status;
    device.fail(status);
  }
  parts.add_bias();
  return {};
}

}  // namespace liveavatar::cuda
