// Video out: H.264 (or what a card encodes) + AAC, written as it grows; playable while it grows and after a crash. An
// MP4 is fragmented until it is finished, a plain one with an index then. A name that ends in .m3u8 is HLS: segments
// beside the playlist.
#pragma once

#include <memory>
#include <string>

#include "core/output_files.h"
#include "core/status.h"
#include "liveavatar/types.h"
#include "media/audio.h"
#include "media/file_position.h"
#include "media/stream_output.h"

namespace liveavatar {

struct VideoWriterOptions {
  int64_t width = 0, height = 0;  // even
  int fps = 25;
  VideoEncoder encoder = VideoEncoder::kCpu;
  int card = -1;                    // whose NVENC; -1: any
  int crf = 18;                     // of either encoder: the quality
  std::string preset = "veryfast";  // of the CPU's
  int threads = 0;                  // of the CPU's; 0: the library's choice
  // Of the CPU's: constrained baseline, which every browser and phone decodes, and keyframes only where they are asked
  // for or a second after the last.
  bool live = false;
  bool h264_only = false;  // no other codec of a card's
  // MP4 alone: a file that can be gone on with later. It is made of segments, and what is in it is on the disk, not
  // only with the system: a power cut leaves it.
  bool resumable = false;
  std::string mark;  // of the job, as the file's comment: whole_with_mark() finds it; empty: none
};

// kUnsupported if the encoder of these options does not open here for this size. It is closed again.
Status check_video_encoder(const VideoWriterOptions& options);

// kInvalidArgument if no format has the name's ending (in any case); the message is the path and the valid endings.
Status check_video_path(const std::string& path);

// Whether the file is a finished video of that mark, with so many frames.
bool whole_with_mark(const std::string& path, const std::string& mark, int64_t frames);

// kInvalidArgument where a file of that name cannot be resumable.
Status check_resumable(const std::string& path);

// Whether the file has the name of a segment that a video of this name (HLS) would write.
bool writes_segment(const std::string& video, const std::string& file);

// One thread at a time. Frames and audio go out interleaved; a fragment is closed twice a second and flushed. An
// existing video stays until the first frame is in a file.
class VideoWriter {
 public:
  virtual ~VideoWriter() = default;  // without finish(): the file ends at the last fragment
  // audio may be null (silent video). It is read alongside the frames, up to the end of the last frame.
  static Expected<std::unique_ptr<VideoWriter>> open(const std::string& path, const VideoWriterOptions& options,
                                                     std::unique_ptr<AudioStream> audio);
  // Into an output that is claimed already, and outlives the writer.
  static Expected<std::unique_ptr<VideoWriter>> open(OutputClaim& claim, const VideoWriterOptions& options,
                                                     std::unique_ptr<AudioStream> audio);
  // Goes on with the file of the claim behind a position of it; what it has beyond is gone with the first frames. The
  // file is then, to the bit of its frames, as if it had been made at once. options: resumable. audio: from its start.
  static Expected<std::unique_ptr<VideoWriter>> resume(OutputClaim& claim, const FilePosition& from,
                                                       const VideoWriterOptions& options,
                                                       std::unique_ptr<AudioStream> audio);
  // Into an output that is open already, and is the writer's from now on: H.264 + AAC. To a server frames go at their
  // time, 25 a second, or as they are made where that is slower; to a pipe as they are made.
  static Expected<std::unique_ptr<VideoWriter>> open(StreamOutput& output, const VideoWriterOptions& options,
                                                     std::unique_ptr<AudioStream> audio);
  virtual std::string encoder() const = 0;  // by FFmpeg's name: "libx264", "h264_nvenc"
  // rgb [height, width, 3].
  virtual Status write_frame(const uint8_t* rgb) = 0;
  // Of a resumable file: its last position; between two segments. kUnsupported of another.
  virtual Expected<FilePosition> position() const;
  // Encodes the rest of the audio up to the last frame's end (silence if it is shorter), writes the index, closes.
  virtual Status finish() = 0;
};

}  // namespace liveavatar
