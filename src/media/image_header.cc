#include "media/image_header.h"

#include <algorithm>

#include "media/heif.h"
#include "media/tiff_fields.h"

namespace liveavatar {
namespace {

constexpr int64_t kLongestBlock = 1 << 16;  // of EXIF that is read

uint32_t big(const std::string& b, size_t at, int size) {
  uint32_t value = 0;
  for (int i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(b[at + static_cast<size_t>(i)]);
  return value;
}

uint32_t little(const std::string& b, size_t at, int size) {
  uint32_t value = 0;
  for (int i = size - 1; i >= 0; --i) value = value << 8 | static_cast<uint8_t>(b[at + static_cast<size_t>(i)]);
  return value;
}

std::string without_exif_mark(std::string block) {
  const std::string mark("Exif\0\0", 6);
  return block.substr(0, 6) == mark ? block.substr(6) : block;
}

int valid_orientation(int64_t value) { return value >= 1 && value <= 8 ? static_cast<int>(value) : 1; }

bool holds(const ReadFile& file, int64_t from, const std::string& mark) {
  constexpr int64_t kStep = 1 << 16;
  for (int64_t at = from; at < file.size(); at += kStep) {
    if (file.bytes_at(at, kStep + 1).find(mark) != std::string::npos) return true;
  }
  return false;
}

// SOFn: size, and samples a pixel by the components' subsampling.
void read_jpeg_frame(const std::string& body, ImageHeader& header) {
  if (body.size() < 6) return;
  header.height = big(body, 1, 2);
  header.width = big(body, 3, 2);
  size_t components = static_cast<uint8_t>(body[5]);
  double samples = 0, most = 1;
  for (size_t c = 0; c < components && body.size() >= 6 + 3 * (c + 1); ++c) {
    int area = (static_cast<uint8_t>(body[7 + 3 * c]) >> 4) * (body[7 + 3 * c] & 15);
    samples += area;
    most = std::max(most, double(area));
  }
  header.sample_bytes = samples / most;
}

void read_jpeg(const ReadFile& file, ImageHeader& header) {
  for (int64_t at = 2;;) {
    std::string head = file.bytes_at(at, 4);
    if (head.size() < 4 || head[0] != '\xff') {
      header.complete = head.size() == 4;
      return;
    }
    auto marker = static_cast<uint8_t>(head[1]);
    if (marker == 0xff) {  // padding
      ++at;
      continue;
    }
    int64_t size = big(head, 2, 2);
    if (marker == 0xda) {
      header.complete = holds(file, at, "\xff\xd9");  // a decoder may not notice that lines or scans are missing
      return;
    }
    if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
      header.progressive = (marker & 3) == 2;
      read_jpeg_frame(file.bytes_at(at + 4, size - 2), header);
    }
    if (marker == 0xe1) {
      std::string body = file.bytes_at(at + 4, size - 2);
      if (body.substr(0, 4) == "Exif") header.orientation = exif_orientation(without_exif_mark(body));
    }
    at += 2 + size;
  }
}

void read_png(const ReadFile& file, ImageHeader& header) {
  header.complete = false;
  bool moves = false;
  for (int64_t at = 8; !header.complete;) {
    std::string head = file.bytes_at(at, 8);
    if (head.size() < 8) return;
    int64_t size = big(head, 0, 4);
    std::string name = head.substr(4);
    if (name == "IHDR") {
      std::string body = file.bytes_at(at + 8, 13);
      if (body.size() < 13) return;
      constexpr int kChannels[] = {1, 1, 3, 1, 2, 1, 4, 1};
      header.width = big(body, 0, 4);
      header.height = big(body, 4, 4);
      header.sample_bytes = kChannels[body[9] & 7] * (body[8] == 16 ? 2 : 1);
    }
    if (name == "acTL" && !moves) header.sample_bytes *= 3;  // the frame before, and the one before that
    moves = moves || name == "acTL";
    if (name == "eXIf")
      header.orientation = exif_orientation(without_exif_mark(file.bytes_at(at + 8, std::min(size, kLongestBlock))));
    header.complete = name == "IEND";
    at += 12 + size;
  }
}

void read_tiff(const ReadFile& file, ImageHeader& header) {
  TiffFields fields([&file](int64_t offset, int64_t count) { return file.bytes_at(offset, count); });
  header.width = fields.value(256, 0);
  header.height = fields.value(257, 0);
  header.orientation = valid_orientation(fields.value(274, 1));
  constexpr int64_t kMostSamples = 64, kMostBits = 64;
  int64_t samples = std::clamp<int64_t>(fields.value(277, 1), 1, kMostSamples);
  header.sample_bytes = double(samples * std::clamp<int64_t>(fields.value(258, 1), 8, kMostBits)) / 8;
  bool tiles = !fields.values(324, 1).empty();
  constexpr int64_t kMost = 1 << 20;
  std::vector<int64_t> offsets = fields.values(tiles ? 324 : 273, kMost);
  std::vector<int64_t> sizes = fields.values(tiles ? 325 : 279, kMost);
  for (size_t i = 0; i < std::min(offsets.size(), sizes.size()); ++i)
    header.complete &= offsets[i] + sizes[i] <= file.size();
}

void read_webp(const ReadFile& file, ImageHeader& header) {
  int64_t end = 8 + int64_t{little(file.bytes_at(4, 4), 0, 4)};
  header.complete = end <= file.size();
  header.sample_bytes = 4;
  for (int64_t at = 12; at < end;) {
    std::string head = file.bytes_at(at, 8 + 10);
    if (head.size() < 8 + 10) return;
    int64_t size = little(head, 4, 4);
    std::string name = head.substr(0, 4);
    if (name == "VP8X") {
      header.animated = (head[8] & 2) != 0;
      if (header.animated) header.sample_bytes = 8;  // the decoder holds two images
      header.width = 1 + little(head, 12, 3);
      header.height = 1 + little(head, 15, 3);
    } else if (name == "VP8 " && header.width == 0) {
      header.width = little(head, 14, 2) & 0x3fff;
      header.height = little(head, 16, 2) & 0x3fff;
    } else if (name == "VP8L" && header.width == 0) {
      uint32_t bits = little(head, 9, 4);
      header.width = 1 + (bits & 0x3fff);
      header.height = 1 + (bits >> 14 & 0x3fff);
    } else if (name == "EXIF") {
      header.orientation = exif_orientation(without_exif_mark(file.bytes_at(at + 8, std::min(size, kLongestBlock))));
    }
    at += 8 + size + (size & 1);
  }
}

}  // namespace

int exif_orientation(const std::string& tiff) {
  TiffFields fields([&tiff](int64_t offset, int64_t count) {
    bool inside = offset >= 0 && offset < static_cast<int64_t>(tiff.size());
    return inside ? tiff.substr(static_cast<size_t>(offset), static_cast<size_t>(std::max<int64_t>(0, count))) : "";
  });
  return fields.valid() ? valid_orientation(fields.value(274, 1)) : 1;
}

const char* image_kind_name(ImageKind kind) {
  constexpr const char* kNames[] = {"image", "JPEG", "PNG", "TIFF", "WebP", "GIF", "BMP", "HEIF"};
  return kNames[static_cast<size_t>(kind)];
}

ImageHeader read_image_header(const ReadFile& file) {
  ImageHeader header;
  std::string head = file.bytes_at(0, 64);
  auto starts = [&head](const std::string& mark) { return head.compare(0, mark.size(), mark) == 0; };
  if (starts("\xff\xd8\xff")) {
    header.kind = ImageKind::kJpeg;
    read_jpeg(file, header);
  } else if (starts(std::string("\x89PNG\r\n\x1a\n"))) {
    header.kind = ImageKind::kPng;
    read_png(file, header);
  } else if (starts(std::string("II*\0", 4)) || starts(std::string("MM\0*", 4))) {
    header.kind = ImageKind::kTiff;
    read_tiff(file, header);
  } else if (starts("RIFF") && head.size() >= 12 && head.compare(8, 4, "WEBP") == 0) {
    header.kind = ImageKind::kWebp;
    read_webp(file, header);
  } else if (starts("GIF8") && head.size() >= 10) {
    header.kind = ImageKind::kGif;
    header.width = little(head, 6, 2);
    header.height = little(head, 8, 2);
    header.sample_bytes = 8;  // the frame and what was under it
  } else if (is_heif(head)) {
    header.kind = ImageKind::kHeif;
  } else if (starts("BM") && head.size() >= 26) {
    header.kind = ImageKind::kBmp;
    header.width = little(head, 18, 4);
    header.height = static_cast<uint32_t>(std::abs(static_cast<int64_t>(static_cast<int32_t>(little(head, 22, 4)))));
  }
  return header;
}

}  // namespace liveavatar
