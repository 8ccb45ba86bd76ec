// The end of a fragmented MP4: one index for the whole file, so that every player knows its length and can seek.
#pragma once

#include <string>

#include "core/disk_room.h"
#include "core/status.h"

namespace liveavatar {

// Appends a `moov` whose tables point into the fragments, then declares all that was before it media data: eight bytes
// that are written last, so that the file plays at every moment. No sample moves, and memory does not grow with the
// file. Does nothing where there are no fragments, or the file is no regular one. On an error the file is as it was.
// fd: open for reading and writing; file: its path is what errors call it.
Status make_plain_mp4(int fd, const RoomyFile& file);

// Whether the open file is a fragmented MP4 that never got that index.
bool is_unfinished_mp4(int fd);

}  // namespace liveavatar
