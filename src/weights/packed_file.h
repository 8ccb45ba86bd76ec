// A model in one file, laid out for paging: pages in the order of their use, aligned for direct reads, in a backend's
// own packed form. A JSON header says what it is (docs/paging.md).
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
  static constexpr int64_t kVersion = 1;
  std::string model;    // "s2v_dit"
  std::string packing;  // Backend::packing()
  std::string dtype;    // of matrices, as in dtype_name()
  std::string config;   // the model's, JSON
  std::string source;   // what it was made of, for people
  std::vector<PackedPage> pages;
  struct Tensor {
    std::string name;
    Shape shape;
  };
  std::vector<Tensor> tensors;  // what it was made of, in the checkpoint's names and shapes

  uint64_t file_bytes() const;
  uint64_t parameters() const;
};

bool is_packed_file(const std::string& path);  // by its first bytes
// One clear line for what is no packed file, has another version, is damaged or cut off.
Expected<PackedHeader> read_packed_header(const std::string& path);
// Reads every page and compares its checksum, in pieces: charged to MemoryCategory::kWeights.
Status verify_packed_file(const std::string& path, Budget& budget);

// Writes a file that appears when all is there.
class PackedWriter {
 public:
  // header: all but the pages' offsets and checksums. kIo with what is wanted and what is free where the disk has no
  // room.
  static Expected<std::unique_ptr<PackedWriter>> create(PendingFile file, PackedHeader header);
  // A second writer of `path` is refused.
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
