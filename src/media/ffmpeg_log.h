// FFmpeg's log belongs to the process: programs call this, the library never does.
#pragma once

namespace liveavatar {

// FFmpeg logs nothing from now on, in the whole process.
void silence_ffmpeg_log();

}  // namespace liveavatar
