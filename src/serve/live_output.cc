#include "serve/live_output.h"

#include <bit>
#include <utility>

#include "media/live_muxer.h"

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

// H.264 and Opus, a fragment a chunk, for Media Source Extensions.
class Mp4Output final : public LiveOutput {
 public:
  static Expected<std::unique_ptr<LiveOutput>> open(const LiveChunk& like, Sink sink) {
    LiveMuxerOptions options;
    options.width = like.width;
    options.height = like.height;
    options.sample_rate = like.sample_rate;
    LA_ASSIGN_OR_RETURN(auto muxer, LiveMuxer::open(options, [sink = std::move(sink)](const LiveSegment& segment) {
                          sink({reinterpret_cast<const char*>(segment.bytes.data()), segment.bytes.size()});
                        }));
    return std::unique_ptr<LiveOutput>(new Mp4Output(std::move(muxer)));
  }
  std::string mime() const override { return "video/mp4; codecs=\"" + muxer_->codecs() + "\""; }
  Status write(const LiveChunk& c) override { return muxer_->write(c.rgb, c.frames, c.audio, c.samples); }

 private:
  explicit Mp4Output(std::unique_ptr<LiveMuxer> muxer) : muxer_(std::move(muxer)) {}
  const std::unique_ptr<LiveMuxer> muxer_;
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

Expected<std::unique_ptr<LiveOutput>> open_live_output(LiveFormat format, const LiveChunk& like,
                                                       LiveOutput::Sink sink) {
  if (format == LiveFormat::kMp4) return Mp4Output::open(like, std::move(sink));
  return std::unique_ptr<LiveOutput>(std::make_unique<RawOutput>(std::move(sink)));
}

}  // namespace liveavatar::serve
