#include "media/video_writer.h"

#include <filesystem>

#include "core/text.h"
#include "media/file_writer.h"
#include "media/hls_sink.h"
#include "media/plain_mp4.h"
#include "media/stream_writer.h"

namespace liveavatar {
namespace {

// HLS: the name is that of the playlist.
constexpr const char* kPlaylistEnding = ".m3u8";

// In small letters: the segments of talk.M3U8 would have the names of those of talk.m3u8.
bool is_playlist(const std::string& path) { return std::filesystem::path(path).extension() == kPlaylistEnding; }

}  // namespace

Status check_video_path(const std::string& path) {
  if (container_of(path) || is_playlist(path)) return {};
  if (lower_case(std::filesystem::path(path).extension().string()) == kPlaylistEnding)
    return invalid_argument(path + ": write the ending in small letters, " + kPlaylistEnding);
  return invalid_argument(path + ": the name must end in " + container_endings(false) + ", or in " + kPlaylistEnding +
                          " for HLS");
}

Status check_resumable(const std::string& path) {
  const Container* container = container_of(path);
  if (container != nullptr && container->fragments) return {};
  return invalid_argument(path + ": such a video cannot be resumed; choose a name that ends in " +
                          container_endings(true));
}

// The comment is in the file's first index, at its beginning.
bool whole_with_mark(const std::string& path, const std::string& mark, int64_t frames) {
  constexpr int64_t kHeadBytes = 1 << 16;
  auto file = ReadFile::open(path, "a video");
  if (!file.ok() || (*file)->bytes_at(0, kHeadBytes).find(mark) == std::string::npos) return false;
  if (is_unfinished_mp4((*file)->fd())) return false;
  auto input = Input::open(*file, AVMEDIA_TYPE_VIDEO, "a video");
  return input.ok() && input->format->streams[input->stream]->nb_frames == frames;
}

bool writes_segment(const std::string& video, const std::string& file) {
  return is_playlist(video) && HlsSink::is_segment(file, video);
}

namespace {

// claim: of a playlist, owned or held by the caller.
template <typename Claim>
Expected<std::unique_ptr<VideoWriter>> open_playlist(Claim&& claim, const VideoWriterOptions& options,
                                                     std::unique_ptr<AudioStream> audio) {
  auto sink = std::make_unique<HlsSink>(std::forward<Claim>(claim));
  return open_stream_writer({std::move(sink), false, {}}, options, std::move(audio));
}

template <typename Claim>
Expected<std::unique_ptr<VideoWriter>> open_file(Claim&& claim, const VideoWriterOptions& options,
                                                 std::unique_ptr<AudioStream> audio) {
  if (is_playlist(claim.path())) return open_playlist(std::forward<Claim>(claim), options, std::move(audio));
  auto writer = std::make_unique<FileWriter>(std::forward<Claim>(claim), options);
  LA_RETURN_IF_ERROR(writer->begin(std::move(audio)));
  return std::unique_ptr<VideoWriter>(std::move(writer));
}

}  // namespace

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(const std::string& path, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  LA_RETURN_IF_ERROR(check_video_path(path));
  LA_ASSIGN_OR_RETURN(OutputClaim claim, OutputClaim::acquire({"", path}));
  return open_file(std::move(claim), options, std::move(audio));
}

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(OutputClaim& claim, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  LA_RETURN_IF_ERROR(check_video_path(claim.path()));
  return open_file(claim, options, std::move(audio));
}

Expected<std::unique_ptr<VideoWriter>> VideoWriter::resume(OutputClaim& claim, const FilePosition& from,
                                                           const VideoWriterOptions& options,
                                                           std::unique_ptr<AudioStream> audio) {
  LA_RETURN_IF_ERROR(check_resumable(claim.path()));
  LA_CHECK(options.resumable);
  auto writer = std::make_unique<FileWriter>(claim, options);
  LA_RETURN_IF_ERROR(writer->begin(std::move(audio), &from));
  return std::unique_ptr<VideoWriter>(std::move(writer));
}

Expected<FilePosition> VideoWriter::position() const {
  return unsupported("this video has no position to go on from; it is not a resumable file");
}

Expected<std::unique_ptr<VideoWriter>> VideoWriter::open(StreamOutput& output, const VideoWriterOptions& options,
                                                         std::unique_ptr<AudioStream> audio) {
  return open_stream_writer(output.take(), options, std::move(audio));
}

}  // namespace liveavatar
