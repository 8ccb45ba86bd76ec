#include "weights/packed_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/errno_text.h"
#include "core/folder.h"
#include "core/json.h"
#include "core/system_calls.h"
#include "weights/file_kind.h"

namespace liveavatar {
namespace {

using Json = nlohmann::ordered_json;
constexpr char kMagic[8] = {'L', 'V', 'A', 'V', 'P', 'A', 'C', 'K'};
constexpr uint64_t kMaxHeaderBytes = 64u << 20;

struct Prefix {
  char magic[8];
  uint64_t header_bytes, header_checksum;
};

// Fixed width, so that checksums can be filled in at the end.
std::string hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string to_json(const PackedHeader& h) {
  Json json;
  json["version"] = PackedHeader::kVersion;
  json["model"] = h.model;
  json["packing"] = h.packing;
  json["dtype"] = h.dtype;
  json["source"] = h.source;
  json["config"] = Json::parse(h.config);
  json["pages"] = Json::array();
  for (const PackedPage& p : h.pages)
    json["pages"].push_back(
        {{"name", p.name}, {"offset", p.span.offset}, {"bytes", p.span.bytes}, {"checksum", hex(p.checksum)}});
  json["tensors"] = Json::object();
  for (const auto& t : h.tensors) {
    json["tensors"][t.name] = Json::array();
    for (int i = 0; i < t.shape.rank(); ++i) json["tensors"][t.name].push_back(t.shape[i]);
  }
  return json_text(json);
}

uint64_t text_checksum(const std::string& text) {
  std::string padded = text;
  padded.resize((text.size() + 31) / 32 * 32, ' ');
  return page_checksum(reinterpret_cast<const std::byte*>(padded.data()), padded.size());
}

Status broken(const std::string& path, const std::string& why) {
  return corrupt(path + ": " + why + "; run `liveavatar convert` again, or copy the file again");
}

// The header passed its checksum, so these errors should not occur, but nothing is assumed.
Expected<PackedHeader> parse(const std::string& path, const std::string& text) {
  LA_ASSIGN_OR_RETURN(Json json, parse_json<Json>(text, path + ": its header"));
  if (!json.is_object() || !json.contains("version") || !json["version"].is_number_integer())
    return broken(path, "its header is no JSON of ours");
  if (json["version"] != PackedHeader::kVersion) {
    return unsupported(path + ": version " + json_text(json["version"]) + " of the packed format, this program reads " +
                       std::to_string(PackedHeader::kVersion) + "; run `liveavatar convert` again");
  }
  PackedHeader h;
  for (auto [key, to] : {std::pair("model", &h.model), std::pair("packing", &h.packing), std::pair("dtype", &h.dtype),
                         std::pair("source", &h.source)}) {
    if (!json.contains(key) || !json[key].is_string()) return broken(path, std::string("its header lacks ") + key);
    *to = json[key];
  }
  if (!json.contains("config") || !json.contains("pages") || !json["pages"].is_array() || !json.contains("tensors"))
    return broken(path, "its header is not complete");
  h.config = json_text(json["config"]);
  uint64_t end = 0;
  for (const auto& p : json["pages"]) {
    bool good = p.is_object() && p.contains("name") && p["name"].is_string() && p.contains("offset") &&
                p["offset"].is_number_unsigned() && p.contains("bytes") && p["bytes"].is_number_unsigned() &&
                p.contains("checksum") && p["checksum"].is_string();
    if (!good) return broken(path, "its header has a page without a place");
    PackedPage page;
    page.name = p["name"];
    page.span = {p["offset"], p["bytes"]};
    page.checksum = std::strtoull(p["checksum"].get<std::string>().c_str(), nullptr, 16);
    page.span.checksum = page.checksum;
    bool placed = page.span.offset % DirectFile::kAlign == 0 && page.span.bytes % DirectFile::kAlign == 0 &&
                  page.span.offset >= end && page.span.bytes <= (uint64_t{1} << 46);
    if (!placed) return broken(path, "page " + page.name + " is not where a page can be");
    end = page.span.offset + page.span.bytes;
    h.pages.push_back(page);
  }
  for (const auto& [name, dims] : json["tensors"].items()) {
    Shape shape;
    for (const auto& d : dims) {
      if (!d.is_number_integer() || shape.rank() == Shape::kMaxRank) return broken(path, "tensor " + name);
      shape.push_back(d);
    }
    h.tensors.push_back({name, shape});
  }
  return h;
}

}  // namespace

uint64_t PackedHeader::file_bytes() const {
  return pages.empty() ? 0 : pages.back().span.offset + pages.back().span.bytes;
}

uint64_t PackedHeader::parameters() const {
  uint64_t count = 0;
  for (const Tensor& t : tensors) count += static_cast<uint64_t>(t.shape.elements());
  return count;
}

bool is_packed_file(const std::string& path) {
  auto file = File::open(path);
  char magic[sizeof(kMagic)];
  return file.ok() && (*file)->read(0, magic, sizeof(magic)).ok() && std::memcmp(magic, kMagic, sizeof(magic)) == 0;
}

Expected<PackedHeader> read_packed_header(const std::string& path) {
  LA_ASSIGN_OR_RETURN(std::shared_ptr<const File> file, File::open(path));
  LA_RETURN_IF_ERROR(explain_wrong_file(*file));
  Prefix prefix{};
  if (file->bytes() < sizeof(prefix)) return broken(path, "not a packed model");
  LA_RETURN_IF_ERROR(file->read(0, &prefix, sizeof(prefix)));
  if (std::memcmp(prefix.magic, kMagic, sizeof(kMagic)) != 0) return broken(path, "not a packed model");
  if (prefix.header_bytes > kMaxHeaderBytes || prefix.header_bytes > file->bytes() - sizeof(prefix))
    return broken(path, "cut off in its header");
  std::string text(prefix.header_bytes, '\0');
  LA_RETURN_IF_ERROR(file->read(sizeof(prefix), text.data(), text.size()));
  if (text_checksum(text) != prefix.header_checksum) return broken(path, "its header is damaged");
  LA_ASSIGN_OR_RETURN(PackedHeader header, parse(path, text));
  if (file->bytes() != header.file_bytes()) {
    return broken(path, "has " + std::to_string(file->bytes()) + " bytes, its header says " +
                            std::to_string(header.file_bytes()) + ": cut off");
  }
  return header;
}

Status verify_packed_file(const std::string& path, Budget& budget) {
  LA_ASSIGN_OR_RETURN(PackedHeader header, read_packed_header(path));
  LA_ASSIGN_OR_RETURN(std::unique_ptr<DirectFile> file, DirectFile::open(path));
  const std::atomic<bool> never{false};
  for (const PackedPage& page : header.pages) {
    LA_ASSIGN_OR_RETURN(Buffer buffer, Buffer::allocate(budget, MemoryCategory::kWeights, page.span.bytes));
    LA_RETURN_IF_ERROR(file->read(page.span.offset, buffer.data(), page.span.bytes, never));
    if (page_checksum(buffer.data(), page.span.bytes) != page.checksum)
      return broken(path, "page " + page.name + " is damaged");
  }
  return {};
}

Expected<std::unique_ptr<PackedWriter>> PackedWriter::create(PendingFile file, PackedHeader header) {
  std::unique_ptr<PackedWriter> writer(new PackedWriter(std::move(file), std::move(header)));
  PackedHeader& h = writer->header_;
  // Offsets have a variable number of digits: grow the header until they fit.
  for (uint64_t begin = DirectFile::kAlign;; begin += DirectFile::kAlign) {
    uint64_t at = begin;
    for (PackedPage& page : h.pages) {
      page.span.offset = at;
      at += page.span.bytes;
    }
    uint64_t wanted = DirectFile::round_up(sizeof(Prefix) + to_json(h).size());
    if (wanted <= begin) break;
    begin = wanted - DirectFile::kAlign;
  }
  const std::string& path = writer->file_.path();
  LA_ASSIGN_OR_RETURN(uint64_t left, disk_left_bytes(folder_of(path).string()));
  if (left < h.file_bytes()) {
    return io_error(path + ": the packed model takes " + gb_text(h.file_bytes()) + ", the disk has " + gb_text(left) +
                    " left; choose another place");
  }
  return writer;
}

Expected<std::unique_ptr<PackedWriter>> PackedWriter::create(const std::string& path, PackedHeader header) {
  LA_ASSIGN_OR_RETURN(PendingFile file, PendingFile::open(path, PendingFile::Busy::kRefuse));
  return create(std::move(file), std::move(header));
}

Status PackedWriter::write(const void* data, size_t bytes, uint64_t offset) {
  const int error = write_all_at(file_.descriptor(), data, bytes, offset);
  if (error == 0) return {};
  return io_error(file_.path() + ": cannot be written " + errno_text(error, "make room, or choose another place"));
}

Status PackedWriter::append(const std::byte* data) {
  PackedPage& page = header_.pages[next_++];
  page.checksum = page_checksum(data, page.span.bytes);
  return write(data, page.span.bytes, page.span.offset);
}

Status PackedWriter::finish() {
  LA_CHECK(next_ == header_.pages.size());
  std::string text = to_json(header_);
  Prefix prefix{};
  std::memcpy(prefix.magic, kMagic, sizeof(kMagic));
  prefix.header_bytes = text.size();
  prefix.header_checksum = text_checksum(text);
  LA_RETURN_IF_ERROR(write(text.data(), text.size(), sizeof(prefix)));
  LA_RETURN_IF_ERROR(write(&prefix, sizeof(prefix), 0));
  return file_.commit();
}

}  // namespace liveavatar
