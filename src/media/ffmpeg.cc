#include "media/ffmpeg.h"

#include <filesystem>
#include <mutex>

namespace liveavatar {

std::string ffmpeg_error(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof(text));
  return text;
}

namespace {

// The library never prints; FFmpeg would.
void silence_ffmpeg() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback([](void*, int, const char*, va_list) {}); });
}

Status check_file(const std::string& path, const std::string& what) {
  std::error_code error;
  auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return not_found(path + ": no such file");
  if (std::filesystem::is_directory(status)) return corrupt(path + ": a folder, not " + what);
  if (std::filesystem::is_regular_file(status) && std::filesystem::file_size(path, error) == 0 && !error) {
    return corrupt(path + ": the file is empty");
  }
  return {};
}

}  // namespace

Expected<Input> Input::open(const std::string& path, AVMediaType kind, const std::string& what) {
  silence_ffmpeg();
  LA_RETURN_IF_ERROR(check_file(path, what));
  Input input;
  AVFormatContext* format = nullptr;
  // "file:" keeps a name with a colon from being taken for a protocol.
  if (int code = avformat_open_input(&format, ("file:" + path).c_str(), nullptr, nullptr); code < 0) {
    return corrupt(path + ": cannot be read as " + what + " (" + ffmpeg_error(code) + ")");
  }
  input.format.reset(format);
  if (avformat_find_stream_info(format, nullptr) < 0) return corrupt(path + ": cannot be read as " + what);
  const AVCodec* codec = nullptr;
  input.stream = av_find_best_stream(format, kind, -1, -1, &codec, 0);
  if (input.stream < 0 || codec == nullptr) return corrupt(path + ": there is no " + what.substr(2) + " in this file");
  input.decoder.reset(avcodec_alloc_context3(codec));
  input.packet.reset(av_packet_alloc());
  input.frame.reset(av_frame_alloc());
  if (!input.decoder || !input.packet || !input.frame) return out_of_memory("no memory to decode " + path);
  avcodec_parameters_to_context(input.decoder.get(), format->streams[input.stream]->codecpar);
  input.decoder->thread_count = 1;
  if (int code = avcodec_open2(input.decoder.get(), codec, nullptr); code < 0) {
    return corrupt(path + ": cannot be decoded as " + what + " (" + ffmpeg_error(code) + ")");
  }
  return input;
}

bool Input::next() {
  while (true) {
    int code = avcodec_receive_frame(decoder.get(), frame.get());
    if (code == 0) return true;
    if (code != AVERROR(EAGAIN) || drained) return false;
    code = av_read_frame(format.get(), packet.get());
    if (code < 0) {  // the end, or damage: what the decoder still holds comes out
      drained = true;
      avcodec_send_packet(decoder.get(), nullptr);
      continue;
    }
    if (packet->stream_index == stream)
      avcodec_send_packet(decoder.get(), packet.get());  // a damaged packet is skipped
    av_packet_unref(packet.get());
  }
}

}  // namespace liveavatar
