// A model in one file for paging: pages in the order of their use, aligned for direct reads, in a backend's packed
// form. A JSON header describes it (docs/paging.md).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/memory.h"
#include "core/pending_file.h"
#include "paging/pager.h"

namespace liveavatar {

struct PackedPage {
  std::string name;  // "common", "layer 3 ffn", ...
  PageSpan span;
  uint64_t checksum = 0;  // page_checksum of its bytes
};

struct PackedHeader {
  static constexpr int64_t kVersion = 2;
  std::string model;    // "s2v_dit"
  std::string packing;  // Backend::packing()
  std::string dtype;    // of matrices, as in dtype_name()
  std::string config;   // the model's, JSON
  std::string source;   // the source files, for messages
  std::vector<PackedPage> pages;
  struct Tensor {
    std::string name;
    Shape shape;
  };
  std::vector<Tensor> tensors;  // the source tensors, with the checkpoint's names and shapes

  uint64_t file_bytes() const;
  uint64_t parameters() const;
};

bool is_packed_file(const std::string& path);  // by its first bytes
// Errors: not a packed file, another version, damaged or truncated.
Expected<PackedHeader> read_packed_header(const std::string& path);
// Reads every page in chunks and verifies its checksum. The memory is charged to MemoryCategory::kWeights.
Status verify_packed_file(const std::string& path, Budget& budget);

// Writes a packed file. The file gets its name when it is complete.
class PackedWriter {
 public:
  // header: without the pages' offsets and checksums. kIo with the bytes wanted and free if the disk is full.
  static Expected<std::unique_ptr<PackedWriter>> create(PendingFile file, PackedHeader header);
  // A second writer of `path` fails.
  static Expected<std::unique_ptr<PackedWriter>> create(const std::string& path, PackedHeader header);
  PackedWriter(const PackedWriter&) = delete;
  PackedWriter& operator=(const PackedWriter&) = delete;
  Status append(const std::byte* page);  // the next one, all of its bytes
  Status finish();
  const PackedHeader& header() const { return header_; }

 private:
  PackedWriter(PendingFile file, PackedHeader header) : file_(std::move(file)), header_(std::move(header)) {}
  Status write(const void* data, size_t bytes, uint64_t offset);

  PendingFile file_;
  PackedHeader header_;
  size_t next_ = 0;
};

}  // namespace liveavatar
