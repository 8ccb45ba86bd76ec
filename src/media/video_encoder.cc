#include "media/video_encoder.h"

#include <utility>

namespace liveavatar {
namespace {

constexpr const char* kCpuEncoder = "libx264";
// What every player knows comes first; the others take sizes that it refuses.
constexpr const char* kCardEncoders[] = {"h264_nvenc", "hevc_nvenc", "av1_nvenc"};

// What all encoders are told.
Owned<AVCodecContext> make_context(const AVCodec& codec, const VideoWriterOptions& options) {
  Owned<AVCodecContext> encoder(avcodec_alloc_context3(&codec));
  if (encoder == nullptr) return encoder;
  encoder->width = static_cast<int>(options.width);
  encoder->height = static_cast<int>(options.height);
  encoder->time_base = {1, options.fps};
  encoder->framerate = {options.fps, 1};
  encoder->pix_fmt = AV_PIX_FMT_YUV420P;
  encoder->gop_size = options.fps;
  encoder->max_b_frames = 0;
  encoder->log_level_offset = kQuiet;
  encoder->color_range = AVCOL_RANGE_MPEG;
  encoder->colorspace = AVCOL_SPC_BT709;
  encoder->color_primaries = AVCOL_PRI_BT709;
  encoder->color_trc = AVCOL_TRC_BT709;
  encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
  return encoder;
}

// Both without look-ahead: a frame that went in is in the file.
void set_cpu_options(AVCodecContext& encoder, const VideoWriterOptions& options) {
  encoder.thread_count = options.threads;
  av_opt_set(encoder.priv_data, "preset", options.preset.c_str(), 0);
  av_opt_set(encoder.priv_data, "tune", "zerolatency", 0);
  av_opt_set_int(encoder.priv_data, "crf", options.crf, 0);
  if (!options.live) return;
  av_opt_set(encoder.priv_data, "profile", "baseline", 0);
  av_opt_set_int(encoder.priv_data, "sc_threshold", 0, 0);  // no keyframe at a change of scene
  av_opt_set_int(encoder.priv_data, "forced-idr", 1, 0);
}

void set_card_options(AVCodecContext& encoder, const VideoWriterOptions& options) {
  encoder.bit_rate = 0;  // the quality decides
  av_opt_set(encoder.priv_data, "preset", "p4", 0);
  av_opt_set(encoder.priv_data, "rc", "vbr", 0);
  av_opt_set_int(encoder.priv_data, "cq", options.crf, 0);
  av_opt_set_int(encoder.priv_data, "zerolatency", 1, 0);
  av_opt_set_int(encoder.priv_data, "delay", 0, 0);
  av_opt_set_int(encoder.priv_data, "gpu", options.card, 0);
}

Status absent(const std::string& name) {
  if (name != kCpuEncoder) return unsupported("FFmpeg here has no " + name);
  return find_encoder(name, "H.264").status();
}

Status refused(const std::string& name, int code, const VideoWriterOptions& options) {
  // libx264 says no more than that it failed, also where it got no memory.
  if (name == kCpuEncoder && (code == AVERROR_EXTERNAL || code == AVERROR(ENOMEM)))
    return out_of_memory("the H.264 encoder does not open (" + ffmpeg_error(code) +
                         "): the system has no memory left, or it refuses the `size`; close other programs, raise the "
                         "limit (ulimit -v), or take another `size`");
  if (name == kCpuEncoder)
    return unsupported("the H.264 encoder refuses the video (" + ffmpeg_error(code) + "); take another `size`");
  return unsupported(name + " does not open for " + std::to_string(options.width) + "x" +
                     std::to_string(options.height) + " (" + ffmpeg_error(code) + ")");
}

// libx264 prints a line of its own where it gets no memory: it is tried before, with what a small video takes.
bool has_memory_for_x264() {
  constexpr size_t kLeastBytes = size_t{24} << 20;
  void* const tried = av_malloc(kLeastBytes);
  av_free(tried);
  return tried != nullptr;
}

Expected<Owned<AVCodecContext>> open_encoder(const std::string& name, const VideoWriterOptions& options) {
  const AVCodec* codec = avcodec_find_encoder_by_name(name.c_str());
  if (codec == nullptr) return absent(name);
  Owned<AVCodecContext> encoder = make_context(*codec, options);
  if (encoder == nullptr) return out_of_memory("no memory for the video encoder; close other programs");
  if (name == kCpuEncoder) {
    if (!has_memory_for_x264()) return refused(name, AVERROR(ENOMEM), options);
    set_cpu_options(*encoder, options);
  } else {
    set_card_options(*encoder, options);
  }
  if (const int code = avcodec_open2(encoder.get(), codec, nullptr); code < 0) return refused(name, code, options);
  return encoder;
}

// The first of a card's that opens.
Expected<std::string> choose_card_encoder(const TryEncoder& open) {
  std::string why;
  for (const char* name : kCardEncoders) {
    const Status opened = open(name);
    if (opened.ok()) return std::string(name);
    if (why.empty()) why = opened.message();
  }
  return unsupported("`video_encoder` nvenc: " + why +
                     "; it takes an NVIDIA card with NVENC and its driver; choose auto or cpu");
}

}  // namespace

Expected<std::string> choose_encoder(VideoEncoder asked, const TryEncoder& open) {
  if (asked != VideoEncoder::kCpu) {
    Expected<std::string> on_card = choose_card_encoder(open);
    if (on_card.ok() || asked == VideoEncoder::kNvenc) return on_card;
  }
  LA_RETURN_IF_ERROR(open(kCpuEncoder));
  return std::string(kCpuEncoder);
}

Expected<Owned<AVCodecContext>> open_video_encoder(const VideoWriterOptions& options) {
  Owned<AVCodecContext> encoder;
  auto open = [&](const std::string& name) -> Status {
    if (options.h264_only && name != kCpuEncoder && !name.starts_with("h264"))
      return unsupported(name + " is not H.264, which a stream takes");
    LA_ASSIGN_OR_RETURN(encoder, open_encoder(name, options));
    return {};
  };
  LA_RETURN_IF_ERROR(choose_encoder(options.encoder, open).status());
  return encoder;
}

Status check_video_encoder(const VideoWriterOptions& options) { return open_video_encoder(options).status(); }

}  // namespace liveavatar
