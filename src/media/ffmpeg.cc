#include "media/ffmpeg.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <vector>

#include "media/ffmpeg_log.h"

namespace liveavatar {

void silence_ffmpeg_log() { av_log_set_level(AV_LOG_QUIET); }

std::string ffmpeg_error(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof(text));
  return text;
}

Expected<const AVCodec*> find_encoder(const std::string& name, const std::string& format) {
  const AVCodec* codec = avcodec_find_encoder_by_name(name.c_str());
  if (codec != nullptr) return codec;
  return unsupported("FFmpeg here has no " + format + " encoder; install FFmpeg's libraries with " + name +
                     ", as Debian has them");
}

namespace {

constexpr const char* kAdvice = "; export it again, or give another file";

// The ending is all that FFmpeg sees of a name: some raw formats are recognised by it alone. Empty: it could be a
// pattern.
std::string harmless_name(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  bool plain = ending.size() > 1 &&
               std::all_of(ending.begin() + 1, ending.end(), [](unsigned char c) { return std::isalnum(c) != 0; });
  return plain ? "file" + ending : "";
}

struct Demuxer {
  const AVInputFormat* format = nullptr;
  AVCodecID codec = AV_CODEC_ID_NONE;  // where the demuxer does not know it
};

// A demuxer that would open files by their name (sequences of images) is no choice. Images without a mark of their
// own (TGA) are known by their ending.
Demuxer find_demuxer(AVIOContext* io, const std::string& name, bool image) {
  Demuxer found;
  for (const std::string& known_as : {name, std::string()}) {
    if (av_probe_input_buffer2(io, &found.format, known_as.c_str(), nullptr, 0, 0) < 0) break;
    if (!(found.format->flags & AVFMT_NOFILE)) return found;
    found.format = nullptr;
  }
  const AVOutputFormat* pictures = av_guess_format("image2", nullptr, nullptr);
  bool guess = image && pictures && !name.empty();
  found.codec = guess ? av_guess_codec(pictures, nullptr, name.c_str(), nullptr, AVMEDIA_TYPE_VIDEO) : AV_CODEC_ID_NONE;
  found.format = found.codec == AV_CODEC_ID_NONE ? nullptr : av_find_input_format("image2pipe");
  return found;
}

// Playlists are not followed: only the named file is read.
int open_no_other(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) { return AVERROR(EACCES); }

// Not to be confused: what cannot be read, what there is no memory for, and what is damaged.
Status refused(const ReadFile& file, int code, const std::string& text) {
  LA_RETURN_IF_ERROR(file.status());
  if (code == AVERROR(ENOMEM)) return out_of_memory(file.path() + ": no memory to decode it; close other programs");
  return corrupt(file.path() + text + kAdvice);
}

Status open_format(Input& input, const SharedFile& file, const std::string& what) {
  const std::string& path = file->path();
  bool image = what == "an image";
  input.file = file;
  input.io = io_of(file);
  AVFormatContext* format = avformat_alloc_context();
  if (!input.io || format == nullptr) {
    avformat_free_context(format);
    return refused(*file, AVERROR(ENOMEM), "");
  }
  Demuxer demuxer = find_demuxer(input.io.get(), harmless_name(path), image);
  format->video_codec_id = demuxer.codec;
  format->pb = input.io.get();
  format->io_open = open_no_other;
  // On failure FFmpeg frees the context.
  int code = demuxer.format ? avformat_open_input(&format, "", demuxer.format, nullptr) : AVERROR_INVALIDDATA;
  if (demuxer.format == nullptr) avformat_free_context(format);
  if (code < 0) return refused(*file, code, ": cannot be read as " + what + " (" + ffmpeg_error(code) + ")");
  input.format.reset(format);
  return {};
}

}  // namespace

namespace {

struct DecoderOptions {
  int err_recognition = 0, reduction = 0;
  int64_t max_pixels = kMostPixels;
};

Status open_decoder(Input& input, AVMediaType kind, const std::string& what, DecoderOptions options) {
  const ReadFile& file = *input.file;
  const AVCodec* codec = nullptr;
  AVFormatContext* format = input.format.get();
  input.stream = av_find_best_stream(format, kind, -1, -1, &codec, 0);
  if (input.stream < 0 || codec == nullptr) {
    LA_RETURN_IF_ERROR(file.status());
    return corrupt(file.path() + ": there is no " + what.substr(what.find(" ") + 1) +
                   " in this file; give one that has it");
  }
  input.decoder.reset(avcodec_alloc_context3(codec));
  input.packet.reset(av_packet_alloc());
  input.frame.reset(av_frame_alloc());
  if (!input.decoder || !input.packet || !input.frame) return refused(file, AVERROR(ENOMEM), "");
  if (int code = avcodec_parameters_to_context(input.decoder.get(), format->streams[input.stream]->codecpar); code < 0)
    return refused(file, code, ": cannot be decoded as " + what);
  input.decoder->thread_count = 1;
  input.decoder->log_level_offset = kQuiet;
  input.decoder->err_recognition = options.err_recognition;
  input.decoder->max_pixels = options.max_pixels;
  input.decoder->lowres = std::min(options.reduction, int(codec->max_lowres));
  if (int code = avcodec_open2(input.decoder.get(), codec, nullptr); code < 0)
    return refused(file, code, ": cannot be decoded as " + what + " (" + ffmpeg_error(code) + ")");
  return {};
}

// FFmpeg decodes the first frames here.
Status probe_streams(Input& input, const std::string& what, int64_t max_pixels) {
  const unsigned streams = input.format->nb_streams;
  std::vector<AVDictionary*> options(streams, nullptr);
  for (AVDictionary*& one : options) av_dict_set_int(&one, "max_pixels", max_pixels, 0);
  int code = avformat_find_stream_info(input.format.get(), options.data());
  for (AVDictionary*& one : options) av_dict_free(&one);
  if (code < 0) return refused(*input.file, code, ": cannot be read as " + what);
  return {};
}

}  // namespace

Expected<Input> Input::open(const SharedFile& file, AVMediaType kind, const std::string& what, int64_t max_pixels) {
  Input input;
  LA_RETURN_IF_ERROR(open_format(input, file, what));
  LA_RETURN_IF_ERROR(probe_streams(input, what, max_pixels));
  LA_RETURN_IF_ERROR(open_decoder(input, kind, what, {0, 0, max_pixels}));
  return input;
}

Expected<Input> Input::open_image(const SharedFile& file, ImageOptions options) {
  const std::string what = "an image";
  Input input;
  LA_RETURN_IF_ERROR(open_format(input, file, what));
  if (options.probe) LA_RETURN_IF_ERROR(probe_streams(input, what, kMostPixels));
  int recognition = options.strict ? AV_EF_EXPLODE | AV_EF_CRCCHECK : 0;
  LA_RETURN_IF_ERROR(open_decoder(input, AVMEDIA_TYPE_VIDEO, what, {recognition, options.reduction}));
  return input;
}

int Input::note(int code) {
  if (code == AVERROR(ENOMEM)) no_memory = true;
  return code;
}

Status Input::status() const { return no_memory ? refused(*file, AVERROR(ENOMEM), "") : file->status(); }

bool Input::next() {
  while (true) {
    int code = note(avcodec_receive_frame(decoder.get(), frame.get()));
    if (code == 0) return true;
    if (code != AVERROR(EAGAIN) || drained) return false;
    code = note(av_read_frame(format.get(), packet.get()));
    if (code < 0) {  // the end, or damage: what the decoder still holds comes out
      drained = true;
      avcodec_send_packet(decoder.get(), nullptr);
      continue;
    }
    if (packet->stream_index == stream) {
      code = note(avcodec_send_packet(decoder.get(), packet.get()));
      if (code < 0) error = code;
    }
    av_packet_unref(packet.get());
  }
}

}  // namespace liveavatar
