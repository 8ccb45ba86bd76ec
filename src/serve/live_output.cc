#include "serve/live_output.h"

#include <bit>
#include <utility>

namespace liveavatar::serve {
namespace {

static_assert(std::endian::native == std::endian::little, "samples go out as they lie in memory");

template <typename Value>
void append(std::string& out, Value value) {
  for (size_t i = 0; i < sizeof(Value); ++i) out += static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
}

class RawOutput final : public LiveOutput {
 public:
  explicit RawOutput(Sink sink) : sink_(std::move(sink)) {}
  std::string mime() const override { return {}; }
  Status write(const LiveChunk& c) override {
    const size_t rgb_bytes = static_cast<size_t>(c.frames * c.height * c.width * 3);
    std::string message = raw_head(c);
    message.reserve(message.size() + rgb_bytes + static_cast<size_t>(c.samples) * sizeof(int16_t));
    message.append(reinterpret_cast<const char*>(c.rgb), rgb_bytes);
    message.append(reinterpret_cast<const char*>(c.audio), static_cast<size_t>(c.samples) * sizeof(int16_t));
    sink_(std::move(message));
    return {};
  }

 private:
  const Sink sink_;
};

}  // namespace

std::string raw_head(const LiveChunk& c) {
  std::string head = "LARW";
  append(head, uint16_t{1});  // version
  append(head, static_cast<uint16_t>(kRawHeadBytes));
  append(head, static_cast<uint64_t>(c.first_frame));
  append(head, static_cast<uint32_t>(c.frames));
  append(head, static_cast<uint32_t>(c.width));
  append(head, static_cast<uint32_t>(c.height));
  append(head, uint32_t{25});  // frames a second
  append(head, static_cast<uint32_t>(c.sample_rate));
  append(head, static_cast<uint32_t>(c.samples));
  return head;
}

Expected<std::unique_ptr<LiveOutput>> open_live_output(LiveFormat format, const LiveChunk&, LiveOutput::Sink sink) {
  if (format == LiveFormat::kRaw) return std::unique_ptr<LiveOutput>(std::make_unique<RawOutput>(std::move(sink)));
  return unsupported("format mp4 is not in this build; start with \"format\":\"raw\"");
}

}  // namespace liveavatar::serve
