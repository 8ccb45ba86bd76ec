// Where each speaker's audio acts: mask images become shares of the video's tokens (16 x 16 pixels, 4 frames).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/memory.h"
#include "media/fit.h"
#include "media/image_file.h"
#include "media/mask_image.h"
#include "session/speakers.h"

namespace liveavatar {

struct TokenGrid {
  int64_t latents = 0, rows = 0, columns = 0;
  int64_t tokens() const { return latents * rows * columns; }
};
using TokenMask = std::vector<uint8_t>;  // [latents, rows, columns], 0 or 1; one actor's

// The original's way: an actor's images, all of one clip, stretched to the grid, trilinear without antialiasing.
// An image of more than most_pixels is an error.
Expected<TokenMask> stretched_tokens(const MaskImages& pictures, const TokenGrid& grid,
                                     int64_t most_pixels = kWholeImage);

// How the masks lie in the video: scaled and cropped as the portrait is.
struct MaskFit {
  int64_t image_height = 0, image_width = 0;  // of the portrait, upright if it is shown so
  WorkingSize size;                           // of the video
  Fit fit = Fit::kCover;
  int orientation = 1;  // EXIF's, by which the portrait was turned: masks that lie across it are turned too
};
// One image for each frame of video, the last for all behind it; latents [first, first + grid.latents). A token is
// set where more than half of its pixels are, over its frames.
Expected<TokenMask> fitted_tokens(const MaskImages& pictures, const MaskFit& fit, int64_t first, const TokenGrid& grid,
                                  int64_t most_pixels = kWholeImage);

// In place: a token belongs to the last actor that has it.
void assign_tokens(std::vector<TokenMask>& actors);
// In place: in each latent all set tokens grow by a tenth of their extent, at least one.
void widen(TokenMask& mask, const TokenGrid& grid);
// 1 where no other actor is: the background belongs to all.
std::vector<TokenMask> exclude_others(const std::vector<TokenMask>& actors);

// MaskFit::orientation for masks of a portrait that is shown upright: some may be made from the image as it is
// stored. fit.orientation: the portrait's, 0 where it must be found by decoding it (HEIF), which takes
// orientation_bytes() of the budget.
Expected<int> orientation_for(const std::vector<MaskSize>& masks, const MaskFit& fit, const ImageFile& portrait,
                              Budget& budget);
// 0 where nothing has to be decoded.
Expected<size_t> orientation_bytes(const std::vector<MaskSize>& masks, const MaskFit& fit, const ImageFile& portrait);

// Of each actor's first image, by its header: the others of a folder are no larger, or reading them is an error.
Expected<std::vector<MaskSize>> first_mask_sizes(const std::vector<MaskImages>& masks);
int64_t largest_pixels(const std::vector<MaskSize>& masks);
// Several images of one actor: they are read while blocks are made.
bool masks_move(const std::vector<MaskImages>& masks, bool original);

// The masks of a job, block after block.
class ActorMasks {
 public:
  // clip_latents: with `original`, of a clip; all images are spread over it and its first block's serve all blocks.
  struct Options {
    std::vector<MaskImages> pictures;  // an actor each
    MaskFit fit;
    bool original = false;
    int64_t clip_latents = 12, block_latents = 3;
    int64_t largest_pixels = 0;  // largest_pixels(); the caller charges mask_bytes() of it
  };
  // Reads the first block's: a mask that covers nothing of the video then is kInvalidArgument (not with `original`).
  static Expected<ActorMasks> open(Options options);

  bool moving() const;
  // out f32 [actors, block_latents, rows, columns]
  Status block(int64_t block, float* out);

 private:
  Status read(int64_t block);
  Status check_covered(const std::vector<TokenMask>& actors) const;

  Options options_;
  int64_t held_ = -1;  // block that masks_ is of; every block's where they do not move
  std::vector<TokenMask> masks_;
};

}  // namespace liveavatar
