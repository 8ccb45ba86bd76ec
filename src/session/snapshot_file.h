// The file of a snapshot: named records, each with its checksum (docs/resume.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"
#include "core/pending_file.h"
#include "core/state_visitor.h"
#include "media/checksum.h"

namespace liveavatar {

// Has its name when it is whole and on the disk; before, it is gone with this object. One thread at a time.
class SnapshotWriter {
 public:
  static Expected<std::unique_ptr<SnapshotWriter>> create(const std::string& path);
  Status add(const std::string& name, std::span<const std::byte> bytes);
  Status add(const std::string& name, const std::string& text);
  // Tensors of a device come over the host in parts of kPartBytes.
  Status add(const std::string& name, Backend& backend, const Tensor& tensor);
  Status commit();

  const std::string& path() const { return file_.path(); }
  uint64_t bytes() const { return bytes_; }
  static constexpr size_t kPartBytes = size_t{1} << 22;

 private:
  explicit SnapshotWriter(PendingFile file) : file_(std::move(file)) {}
  Status begin(const std::string& name, uint64_t bytes);
  Status put(std::span<const std::byte> bytes);
  Status end();

  PendingFile file_;
  Checksum checksum_;
  uint64_t bytes_ = 0;
  int64_t records_ = 0;
};

// Read and checked to its end before it is used.
class SnapshotReader {
 public:
  // kCorrupt: damaged, not whole, or no snapshot; kUnsupported: of a newer version.
  static Expected<std::unique_ptr<SnapshotReader>> open(const std::string& path);
  ~SnapshotReader();
  SnapshotReader(const SnapshotReader&) = delete;
  SnapshotReader& operator=(const SnapshotReader&) = delete;

  // kCorrupt: there is none of the name, or of other size.
  Expected<std::string> text(const std::string& name) const;
  Status read(const std::string& name, Backend& backend, const Tensor& tensor) const;

  const std::string& path() const { return path_; }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Record {
    uint64_t offset = 0, bytes = 0;
  };
  explicit SnapshotReader(std::string path) : path_(std::move(path)) {}
  Status check();
  Expected<bool> check_record(uint64_t& offset, Checksum& checksum, std::span<std::byte> part);
  Expected<Record> find(const std::string& name) const;
  Status damaged(const std::string& what) const;

  std::string path_;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
  std::map<std::string, Record> records_;
};

// What is shown goes into a snapshot. Both outlive it.
class StateSaver : public StateVisitor {
 public:
  StateSaver(SnapshotWriter& to, Backend& backend) : to_(to), backend_(backend) {}
  Status visit(const std::string& name, const Tensor& tensor) override { return to_.add(name, backend_, tensor); }
  bool gives_back() const override { return false; }

 private:
  SnapshotWriter& to_;
  Backend& backend_;
};

// And comes from it.
class StateRestorer : public StateVisitor {
 public:
  StateRestorer(const SnapshotReader& from, Backend& backend) : from_(from), backend_(backend) {}
  Status visit(const std::string& name, const Tensor& tensor) override { return from_.read(name, backend_, tensor); }
  bool gives_back() const override { return true; }

 private:
  const SnapshotReader& from_;
  Backend& backend_;
};

}  // namespace liveavatar
