// Where pages are that are not in memory.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/memory.h"
#include "paging/direct_file.h"

namespace liveavatar {

// A part of a page. Both are multiples of DirectFile::kAlign.
struct PageRange {
  size_t begin = 0, bytes = 0;
};

// Storage of pages. One thread calls it at a time.
class PageStore {
 public:
  virtual ~PageStore() = default;
  // What has to be read before a page is used; what changed since it was written last, and counts as written from now
  // on. In ascending order.
  virtual std::vector<PageRange> to_read(size_t page) const = 0;
  virtual std::vector<PageRange> to_write(size_t page) = 0;
  // Where the page is, if that is host memory which a device copies from; null: it has to be read.
  virtual const std::byte* host_memory(size_t) const { return nullptr; }
  // Such a range, or a piece of one; the pieces of a page in ascending order. `target` and `data` are of the range.
  // kCancelled soon after `stop` is set. Pages of a store without its own write() never change.
  virtual Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) = 0;
  virtual Status write(size_t page, const PageRange& range, const std::byte* data, const std::atomic<bool>& stop);
};

struct PageSpan {
  uint64_t offset = 0;  // in the file
  size_t bytes = 0;     // both multiples of DirectFile::kAlign
  std::optional<uint64_t> checksum = {};
};

// A checksum of bytes that come in pieces, each a multiple of 32.
class PageChecksum {
 public:
  void add(const std::byte* data, size_t bytes);
  uint64_t value() const;

 private:
  uint64_t sums_[4] = {1, 2, 3, 4};  // independent chains, so that memory bandwidth is the limit
};
uint64_t page_checksum(const std::byte* data, size_t bytes);

// Read-only pages of a file. The first read of each page verifies its checksum: kCorrupt.
class FilePages : public PageStore {
 public:
  FilePages(std::unique_ptr<DirectFile> file, std::vector<PageSpan> spans)
      : file_(std::move(file)), spans_(std::move(spans)) {}
  std::vector<PageRange> to_read(size_t page) const override { return {{0, spans_[page].bytes}}; }
  std::vector<PageRange> to_write(size_t) override { return {}; }
  Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override;
  const DirectFile& file() const { return *file_; }

 private:
  Status damaged(const PageSpan& span) const;

  std::unique_ptr<DirectFile> file_;
  std::vector<PageSpan> spans_;  // with a checksum: not verified yet
  PageChecksum checksum_;        // of the page that is read
};

// Pages in host memory (Buffer::allocate_staging) that never change. The buffers outlive the store.
class HostPages : public PageStore {
 public:
  explicit HostPages(std::span<const Buffer> pages) : pages_(pages) {}
  std::vector<PageRange> to_read(size_t page) const override { return {{0, pages_[page].bytes()}}; }
  std::vector<PageRange> to_write(size_t) override { return {}; }
  const std::byte* host_memory(size_t page) const override { return pages_[page].data(); }
  Status read(size_t page, const PageRange& range, std::byte* target, const std::atomic<bool>& stop) override;

 private:
  std::span<const Buffer> pages_;
};

}  // namespace liveavatar
