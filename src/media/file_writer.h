// A video in a file: the muxer's side of media/video_writer.h.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "media/audio_track.h"
#include "media/ffmpeg.h"
#include "media/rgb_to_yuv.h"
#include "media/video_writer.h"

namespace liveavatar {

// What FFmpeg can write as it grows from these two encoders.
struct Container {
  const char *ending, *muxer;
  bool fragments;  // MP4: they become a plain file at the end
};
// By the ending of a file's name; null: none has it.
const Container* container_of(const std::string& path);
// Every ending, for messages: ".mp4, .m4v or .mkv". resumable: of those alone that can be resumed.
std::string container_endings(bool resumable);

class FileWriter : public VideoWriter {
 public:
  // The claim outlives the writer.
  FileWriter(OutputClaim& claim, VideoWriterOptions options);
  FileWriter(OutputClaim&& claim, VideoWriterOptions options);
  ~FileWriter() override;

  // from: null for a new file. Once, before the first frame.
  Status begin(std::unique_ptr<AudioStream> audio, const FilePosition* from = nullptr);
  std::string encoder() const override { return encoder_name_; }
  Status write_frame(const uint8_t* rgb) override;
  Expected<FilePosition> position() const override;
  Status finish() override;

 private:
  int64_t fragment_frames() const;
  Status open_video();
  Status open_sound(std::unique_ptr<AudioStream> audio);
  Status open_file(const FilePosition* from);
  Status write_header();
  Status skip_sound();

  Status begin_segment();
  Status encode(const AVFrame* frame);
  PacketTaker audio_sink();
  Status put(AVPacket& packet, int stream, AVRational time_base);
  Status end_fragment();
  Status flush_fragment();
  Status write_without_header();
  Status make_durable();
  Status check_kept();
  Status write_failed(int code) const;

  OutputClaim own_claim_;
  OutputClaim& claim_;
  std::string path_;
  VideoWriterOptions options_;
  const Container& container_;
  WriteFile file_;
  OwnedIo io_;                     // before `file_`, which it writes to
  OwnedOutput format_;             // before `io_`, which it writes through
  Owned<AVCodecContext> encoder_;  // of this segment; null: the next one did not open
  std::string encoder_name_;
  Owned<AVPacket> packet_;
  std::optional<RgbToYuv> converter_;
  std::unique_ptr<AudioTrack> sound_;
  int64_t frames_ = 0, fragments_ = 0;
  int64_t safe_frames_ = 0, safe_bytes_ = 0;  // in whole fragments
  FilePosition position_;                     // of a resumable file: the last
  bool resumed_ = false;                      // behind such a position
  bool cut_ = false;                          // and what was behind it is gone
  bool begun_ = false;                        // a fragment is in the file
  bool finished_ = false;
  bool whole_ = false;  // the file plays to its end
  bool lost_ = false;   // somebody else removed it or cut it
};

}  // namespace liveavatar
