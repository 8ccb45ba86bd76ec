// The CPU backend: tiles for everything that is a matrix product (linear, convolution, attention), rows
// for the rest. The kernels are chosen once; layouts that are not hot are left to the reference backend.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/isa.h"
#include "backend/cpu/pack.h"
#include "backend/cpu/scratch.h"
#include "core/memory.h"
#include "core/threads.h"

namespace liveavatar::cpu {

inline Type type_of(DType t) { return t == DType::kF32 ? Type::kF32 : Type::kBF16; }
inline Act act_of(Activation a) { return static_cast<Act>(a); }

struct HeadLayout;
struct Product;
struct Tile;

class CpuBackend : public Backend {
 public:
  CpuBackend(IsaChoice isa, const BackendOptions& options, std::unique_ptr<Backend> plain);
  std::string name() const override { return "cpu"; }
  std::string describe() const override;
  int threads() const override { return pool_.threads(); }
  bool int8_products() const override { return int8_products_; }
  bool rows_are_independent() const override { return true; }

  Event record() override { return {}; }  // an op is done when its call returns
  void wait(Event) override {}
  Status synchronize() override { return {}; }
  void upload(const void* host, const Tensor& to) override { plain_->upload(host, to); }
  void download(const Tensor& from, void* host) override { plain_->download(from, host); }

  Status reserve(const LargestOps& largest) override;
  // What ops took that nobody had reserved for; without a budget everything.
  size_t outside_bytes() const { return outside_.peak_bytes(); }

  std::string packing() const override;
  size_t packed_linear_bytes(int64_t n, int64_t k, DType dtype) const override;
  void pack_linear(const Tensor& weight, DType dtype, void* target) const override;
  void pack_codes(const Tensor& codes, std::span<const float> scales, void* target) const override;
  size_t packed_conv_bytes(const ConvWeight& shape) const override;
  void pack_conv(const Tensor& weight, const ConvWeight& shape, void* target) const override;

  void linear(const Tensor& x, const LinearWeight& w, const Tensor& out, const Epilogue& e) override;
  void conv(const Tensor& x, const ConvWeight& w, const ConvGeometry& g, const Tensor& out, const Epilogue& e) override;
  void attention(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec,
                 const Tensor& out) override;
  void layer_norm(const Tensor& x, float eps, const Tensor& weight, const Tensor& bias, const Modulation& m,
                  const Tensor& out) override;
  void rms_norm(const Tensor& x, float eps, const Tensor& gain, const Tensor& out) override;
  void channel_norm(const Tensor& x, const Tensor& gain, Activation activation, const Tensor& out) override;
  void rope(const Tensor& x, const Tensor& cos_sin, int64_t heads, const Tensor& out) override;
  void add(const Tensor& x, const Tensor& y, float y_factor, const Tensor& out) override;
  void multiply(const Tensor& x, const Tensor& y, const Tensor& out) override;
  void activate(const Tensor& x, Activation activation, const Tensor& out) override;
  void copy(const Tensor& x, const Tensor& out) override;

  void quantise(const Tensor& x, const Tensor& out, const Tensor& scale) override { plain_->quantise(x, out, scale); }
  void dequantise(const Tensor& x, const Tensor& scale, const Tensor& out) override {
    plain_->dequantise(x, scale, out);
  }
  void copy_rows(const StridedRows& x, const StridedRows& out, int64_t rows, int64_t columns) override {
    plain_->copy_rows(x, out, rows, columns);
  }
  void fill(const Tensor& out, float value) override { plain_->fill(out, value); }
  void clamp(const Tensor& x, float low, float high, const Tensor& out) override { plain_->clamp(x, low, high, out); }
  void to_rgb8(const Tensor& x, const Tensor& out) override { plain_->to_rgb8(x, out); }
  void repeat_columns(const Tensor& x, const Tensor& out) override { plain_->repeat_columns(x, out); }
  void relative_bias(const Tensor& line, const Tensor& out) override { plain_->relative_bias(line, out); }
  void patchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    plain_->patchify(x, patch, out);
  }
  void unpatchify(const Tensor& x, const std::array<int64_t, 3>& patch, const Tensor& out) override {
    plain_->unpatchify(x, patch, out);
  }
  void channels_last(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    plain_->channels_last(x, scale, shift, out);
  }
  void channels_first(const Tensor& x, const Tensor& scale, const Tensor& shift, const Tensor& out) override {
    plain_->channels_first(x, scale, shift, out);
  }

 private:
  void linear_product(const Product& p);  // of a linear layer, or of a convolution of single pixels
  void run_product(const Product& p);
  void run_tile(const Product& p, const Tile& tile, ThreadScratch& scratch);
  void store_tile(const Product& p, const Tile& tile, const float* sums);
  void store_rows(const Product& p, const Tile& rows, const float* sums);
  ScratchSizes linear_scratch(int64_t k) const;  // of k or less
  static void pad_rows(const void** pointers, int64_t count, int64_t k, ThreadScratch& scratch);
  // Rows [first, last), at most kBlockRows, through a quantised panel.
  void run_quantised(const Product& p, int64_t first, int64_t last, int64_t panel, ThreadScratch& scratch);
  // Rows of a linear layer as all threads read them: laid out for a matrix unit, or in 8 bits.
  size_t laid_out_bytes(int64_t elements) const;
  struct RowCodes {
    unsigned char* codes = nullptr;
    float* scales = nullptr;
    int64_t stride = 0, first = 0;  // bytes of a row; the first row's number
  };
  void run_int8_product(const Product& p);
  void run_codes(const Product& p, const Tile& block, const RowCodes& rows, ThreadScratch& scratch);

  // On a matrix unit: matrix_product.cc.
  struct MatrixProduct;
  bool fits_matrix(const Product& p) const;
  ScratchSizes matrix_scratch(int64_t k) const;
  void matrix_product(const Product& p);
  void run_pass(const MatrixProduct& m);
  void lay_out_row(const MatrixProduct& m, int64_t row, ThreadScratch& scratch);
  void run_block(const MatrixProduct& m, int64_t block, int64_t group, ThreadScratch& scratch);
  const void* matrix_panel(const MatrixProduct& m, int64_t panel, int64_t first_item, int* offsets,
                           ThreadScratch& scratch);

  struct Convolution;
  struct Stretch {  // output pixels [first, first + count) of some output lines
    int64_t line = 0, lines = 1, first = 0, count = 0;
  };
  Status reserve_conv(const ConvSize& size);
  void stage_line(const Convolution& c, const char* line, int64_t first, int64_t group, std::byte* target);
  void stage_stretch(const Convolution& c, int64_t line, int64_t first, int64_t group, std::byte* stage);
  void run_stretch(const Convolution& c, const Stretch& stretch, ThreadScratch& scratch);
  void run_staged(const Convolution& c, const Tile& tile, int64_t at, ThreadScratch& scratch);
  void run_staged_matrix(const Convolution& c, const Tile& tile, int64_t staged, ThreadScratch& scratch);

  // Few output channels: narrow_conv.cc.
  struct NarrowConvolution;
  bool may_be_narrow(const ConvSize& size) const;
  bool is_narrow(const Convolution& c) const;
  void narrow_conv(const Convolution& c);
  void set_narrow_weights(NarrowConvolution& n);
  void narrow_rows(const NarrowConvolution& n, int64_t first_line, int64_t rows, int64_t column,
                   ThreadScratch& scratch);
  void narrow_line(const NarrowConvolution& n, int64_t line, int64_t column, ThreadScratch& scratch);
  void stage_pixels(const NarrowConvolution& n, const char* line, int64_t first, int64_t slot, ThreadScratch& scratch);

  HeadLayout head_layout(const Tensor& q, std::span<const KeyValues> segments, const AttentionSpec& spec) const;
  int64_t heads_at_once(int64_t heads) const;
  void have_packed(size_t bytes);

  template <typename Body>  // (begin, end)
  void each_chunk(int64_t rows, int64_t row_elements, Body&& body);
  template <typename Body>  // (row)
  void each_row(int64_t rows, int64_t row_elements, Body&& body);

  IsaChoice isa_;
  const Kernels& kernels_;
  bool int8_products_;       // and the CPU can
  mutable ThreadPool pool_;  // packs, too
  Budget outside_;           // for ops that nobody reserved for, and backends without a budget
  Budget& budget_;
  Scratch scratch_;
  Buffer packed_;  // attention: keys and values of the heads in work; a linear layer's rows
  std::unique_ptr<Backend> plain_;
};

}  // namespace liveavatar::cpu
