#include "media/contact_sheet.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "media/ffmpeg.h"
#include "media/image.h"
#include "media/pixels.h"

namespace liveavatar {
namespace {

constexpr int64_t kGap = 2;

void paste(const Image& tile, int64_t top, int64_t left, Image& sheet) {
  for (int64_t y = 0; y < tile.height; ++y) {
    std::memcpy(&sheet.rgb[size_t(((top + y) * sheet.width + left) * 3)], &tile.rgb[size_t(y * tile.width * 3)],
                size_t(tile.width) * 3);
  }
}

Expected<int64_t> count_frames(const SharedFile& video) {
  LA_ASSIGN_OR_RETURN(Input input, Input::open(video, AVMEDIA_TYPE_VIDEO, "a video"));
  int64_t frames = 0;
  while (input.next()) ++frames;
  LA_RETURN_IF_ERROR(input.status());
  if (frames == 0) return corrupt(video->path() + ": there is no frame in this video; give one that plays");
  return frames;
}

}  // namespace

Status write_contact_sheet(const std::string& video, const std::string& png, int columns, int rows) {
  LA_ASSIGN_OR_RETURN(SharedFile file, ReadFile::open(video, "a video"));
  LA_ASSIGN_OR_RETURN(int64_t frames, count_frames(file));
  LA_ASSIGN_OR_RETURN(Input input, Input::open(file, AVMEDIA_TYPE_VIDEO, "a video"));
  int64_t tiles = int64_t{columns} * rows, placed = 0;
  Image sheet;
  for (int64_t f = 0; placed < tiles && input.next(); ++f) {
    if (sheet.rgb.empty()) {
      sheet.width = columns * (input.frame->width + kGap) - kGap;
      sheet.height = rows * (input.frame->height + kGap) - kGap;
      sheet.rgb.assign(static_cast<size_t>(sheet.width * sheet.height * 3), 255);
    }
    while (placed < tiles && f == std::min(frames - 1, (placed * frames + frames / 2) / tiles)) {
      LA_ASSIGN_OR_RETURN(Image tile, frame_to_rgb(video, *input.frame));
      paste(tile, placed / columns * (tile.height + kGap), placed % columns * (tile.width + kGap), sheet);
      ++placed;
    }
  }
  LA_RETURN_IF_ERROR(input.status());
  return write_png(png, sheet);
}

}  // namespace liveavatar
