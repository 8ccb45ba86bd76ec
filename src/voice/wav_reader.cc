#include "voice/wav_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace liveavatar {
namespace {

constexpr size_t kMostHeadBytes = 64 << 10;
constexpr uint32_t kUnknown = 0xFFFFFFFF;

template <typename T>
T number_at(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);  // little endian, as this machine is
  return value;
}

int16_t s16_of(double value) {
  if (!(value > -1)) return value < 0 ? -32768 : 0;  // NaN is 0
  return static_cast<int16_t>(std::lround(std::min(value, 1.0) * 32767));
}

Status no_wav(const std::string& what) { return corrupt("gave no WAV that can be read: " + what); }

}  // namespace

Status WavReader::read_format(std::string_view chunk) {
  constexpr uint16_t kPcm = 1, kFloat = 3, kExtensible = 0xFFFE;
  if (chunk.size() < 16) return no_wav("its format is too short");
  auto format = number_at<uint16_t>(chunk, 0);
  if (format == kExtensible && chunk.size() >= 26) format = number_at<uint16_t>(chunk, 24);
  channels_ = number_at<uint16_t>(chunk, 2);
  const auto rate = number_at<uint32_t>(chunk, 4);
  const auto bits = number_at<uint16_t>(chunk, 14);
  const bool is_known = (format == kPcm && bits == 16) || (format == kFloat && bits == 32);
  if (!is_known || channels_ < 1 || channels_ > 2 || rate < 4000 || rate > 192000)
    return no_wav("it must be 16 bit or float, of one or two channels and 4000 to 192000 Hz");
  rate_hz_ = static_cast<int>(rate);
  sample_bytes_ = bits / 8;
  return {};
}

// Chunks up to the data; nothing where more must come.
Status WavReader::read_head() {
  if (head_.size() < 12) return {};
  if (!head_.starts_with("RIFF") || head_.compare(8, 4, "WAVE") != 0) return no_wav("RIFF or WAVE is missing");
  size_t at = 12;
  while (head_.size() >= at + 8) {
    const auto size = number_at<uint32_t>(head_, at + 4);
    if (head_.compare(at, 4, "data") == 0) {
      if (rate_hz_ == 0) return no_wav("its format does not come before its data");
      in_data_ = true;
      left_ = size == 0 || size == kUnknown ? std::numeric_limits<uint64_t>::max() : size;
      head_.erase(0, at + 8);
      return {};
    }
    if (size > kMostHeadBytes) return no_wav("its head is too long");
    const size_t next = at + 8 + size + size % 2;
    if (head_.size() < next) break;
    if (head_.compare(at, 4, "fmt ") == 0)
      LA_RETURN_IF_ERROR(read_format(std::string_view(head_).substr(at + 8, size)));
    at = next;
  }
  return head_.size() > 2 * kMostHeadBytes ? no_wav("its head is too long") : Status();
}

void WavReader::convert(std::string_view data) {
  const size_t frame_bytes = static_cast<size_t>(channels_) * static_cast<size_t>(sample_bytes_);
  const size_t frames = data.size() / frame_bytes;
  for (size_t frame = 0; frame < frames; ++frame) {
    double sum = 0;
    for (int c = 0; c < channels_; ++c) {
      const size_t at = frame * frame_bytes + static_cast<size_t>(c * sample_bytes_);
      const double value =
          sample_bytes_ == 2 ? double(number_at<int16_t>(data, at)) : double(number_at<float>(data, at));
      sum += value / channels_;
    }
    const int16_t sample = sample_bytes_ == 2 ? static_cast<int16_t>(std::lround(sum)) : s16_of(sum);
    samples_.push_back(sample);
  }
  partial_ = data.substr(frames * frame_bytes);
}

Expected<std::span<const int16_t>> WavReader::push(std::string_view bytes) {
  samples_.clear();
  if (!in_data_) {
    head_ += bytes;
    LA_RETURN_IF_ERROR(read_head());
    if (!in_data_) return std::span<const int16_t>();
    bytes = head_;
  }
  bytes = bytes.substr(0, static_cast<size_t>(std::min<uint64_t>(left_, bytes.size())));
  if (left_ != std::numeric_limits<uint64_t>::max()) left_ -= bytes.size();
  std::string joined = std::move(partial_);
  joined += bytes;
  convert(joined);
  head_.clear();
  return std::span<const int16_t>(samples_);
}

std::string wav_head(int rate_hz, std::optional<uint64_t> samples) {
  constexpr uint32_t kHeadBytes = 36;
  const bool is_known = samples && *samples <= (kUnknown - 1 - kHeadBytes) / 2;
  const uint32_t data_bytes = is_known ? static_cast<uint32_t>(*samples * 2) : kUnknown;
  const uint32_t all_bytes = is_known ? data_bytes + kHeadBytes : kUnknown;
  std::string head = "RIFF";
  auto add = [&](auto value) { head.append(reinterpret_cast<const char*>(&value), sizeof value); };
  add(all_bytes);
  head += "WAVEfmt ";
  add(uint32_t{16});
  add(uint16_t{1});
  add(uint16_t{1});
  add(static_cast<uint32_t>(rate_hz));
  add(static_cast<uint32_t>(rate_hz * 2));
  add(uint16_t{2});
  add(uint16_t{16});
  head += "data";
  add(data_bytes);
  return head;
}

}  // namespace liveavatar
