#include "session/actor_masks.h"

#include <algorithm>
#include <cmath>

#include "session/memory.h"

namespace liveavatar {
namespace {

constexpr int64_t kTokenPixels = 16, kLatentFrames = 4;

bool lies_across(int64_t height, int64_t width, const MaskFit& fit) {
  return (height - width) * (fit.image_height - fit.image_width) < 0;
}

// Keeps the image that was read last: neighbours in time ask for it again.
class ImageReader {
 public:
  explicit ImageReader(const MaskImages& pictures, int64_t most_pixels, MaskFit fit = {})
      : pictures_(pictures), most_pixels_(most_pixels), fit_(fit) {}
  int64_t count() const { return static_cast<int64_t>(pictures_.size()); }
  Expected<const MaskImage*> at(int64_t index) {
    if (index != held_index_) LA_RETURN_IF_ERROR(read(index));
    return &held_;
  }

 private:
  Status read(int64_t index) {
    LA_ASSIGN_OR_RETURN(held_, read_mask(pictures_[static_cast<size_t>(index)], most_pixels_));
    held_index_ = index;
    if (lies_across(held_.height, held_.width, fit_)) held_ = turned(held_, fit_.orientation);
    return {};
  }

  const MaskImages& pictures_;
  int64_t most_pixels_;
  MaskFit fit_;
  int64_t held_index_ = -1;
  MaskImage held_;
};

// One output position of PyTorch's linear interpolation (align_corners = False), in its own precision.
struct Neighbours {
  int64_t low = 0, high = 0;
  float low_share = 1, high_share = 0;
  Neighbours(int64_t position, int64_t in, int64_t out) {
    float scale = static_cast<float>(in) / static_cast<float>(out);
    float source = std::max(0.0f, scale * (static_cast<float>(position) + 0.5f) - 0.5f);
    low = std::min(static_cast<int64_t>(source), in - 1);
    high = std::min(low + 1, in - 1);
    high_share = source - static_cast<float>(low);
    low_share = 1.0f - high_share;
  }
};

// Bilinear at one token of one image.
float sample(const MaskImage& mask, const Neighbours& y, const Neighbours& x) {
  auto row = [&](int64_t at) {
    const uint8_t* set = mask.set.data() + at * mask.width;
    return x.low_share * static_cast<float>(set[x.low]) + x.high_share * static_cast<float>(set[x.high]);
  };
  return y.low_share * row(y.low) + y.high_share * row(y.high);
}

// values [rows, columns] += share * the image stretched to the grid.
void add_stretched(const MaskImage& mask, float share, const TokenGrid& grid, std::vector<float>& values) {
  for (int64_t r = 0; r < grid.rows; ++r) {
    Neighbours y(r, mask.height, grid.rows);
    for (int64_t c = 0; c < grid.columns; ++c)
      values[static_cast<size_t>(r * grid.columns + c)] += share * sample(mask, y, {c, mask.width, grid.columns});
  }
}

// For each position of the frame, the mask's row or column there; -1: a bar.
std::vector<int64_t> source_positions(int64_t frame, int64_t scaled, int64_t offset, int64_t mask) {
  std::vector<int64_t> positions;
  for (int64_t i = 0; i < frame; ++i) {
    int64_t at = i + offset;
    bool inside = at >= 0 && at < scaled;
    positions.push_back(inside ? (2 * at + 1) * mask / (2 * scaled) : -1);
  }
  return positions;
}

// counts [rows, columns] += how many of a token's pixels are set. The mask describes the whole portrait, at whatever
// size.
void count_set(const MaskImage& mask, const MaskFit& fit, const TokenGrid& grid, std::vector<int64_t>& counts) {
  FittedSides sides = fitted_sides(fit.image_height, fit.image_width, fit.size, fit.fit);
  std::vector<int64_t> rows = source_positions(fit.size.height, sides.height, sides.top, mask.height);
  std::vector<int64_t> columns = source_positions(fit.size.width, sides.width, sides.left, mask.width);
  for (size_t y = 0; y < rows.size(); ++y) {
    if (rows[y] < 0) continue;
    const uint8_t* set = mask.set.data() + rows[y] * mask.width;
    int64_t* row = counts.data() + int64_t(y) / kTokenPixels * grid.columns;
    for (size_t x = 0; x < columns.size(); ++x) {
      if (columns[x] >= 0) row[int64_t(x) / kTokenPixels] += set[columns[x]];
    }
  }
}

// Smallest box around the set tokens of one latent; empty: last < first.
struct Box {
  int64_t first_row, last_row = -1, first_column, last_column = -1;
  Box(const uint8_t* mask, const TokenGrid& grid) : first_row(grid.rows), first_column(grid.columns) {
    for (int64_t r = 0; r < grid.rows; ++r) {
      for (int64_t c = 0; c < grid.columns; ++c) {
        if (mask[r * grid.columns + c] == 0) continue;
        first_row = std::min(first_row, r);
        last_row = std::max(last_row, r);
        first_column = std::min(first_column, c);
        last_column = std::max(last_column, c);
      }
    }
  }
  bool empty() const { return last_row < first_row; }
  int64_t longer_side() const { return std::max(last_row - first_row, last_column - first_column) + 1; }
};

void set_square(uint8_t* mask, const TokenGrid& grid, int64_t row, int64_t column, int64_t radius) {
  int64_t last_row = std::min(grid.rows - 1, row + radius), last_column = std::min(grid.columns - 1, column + radius);
  for (int64_t r = std::max<int64_t>(0, row - radius); r <= last_row; ++r) {
    for (int64_t c = std::max<int64_t>(0, column - radius); c <= last_column; ++c) mask[r * grid.columns + c] = 1;
  }
}

}  // namespace

Expected<TokenMask> stretched_tokens(const MaskImages& pictures, const TokenGrid& grid, int64_t most_pixels) {
  ImageReader reader(pictures, most_pixels);
  TokenMask tokens;
  for (int64_t l = 0; l < grid.latents; ++l) {
    Neighbours t(l, reader.count(), grid.latents);
    std::vector<float> values(static_cast<size_t>(grid.rows * grid.columns), 0.0f);
    LA_ASSIGN_OR_RETURN(const MaskImage* low, reader.at(t.low));
    add_stretched(*low, t.low_share, grid, values);
    LA_ASSIGN_OR_RETURN(const MaskImage* high, reader.at(t.high));
    add_stretched(*high, t.high_share, grid, values);
    for (float value : values) tokens.push_back(value > 0.5f);
  }
  return tokens;
}

Expected<TokenMask> fitted_tokens(const MaskImages& pictures, const MaskFit& fit, int64_t first, const TokenGrid& grid,
                                  int64_t most_pixels) {
  ImageReader reader(pictures, most_pixels, fit);
  TokenMask tokens;
  for (int64_t l = 0; l < grid.latents; ++l) {
    std::vector<int64_t> counts(static_cast<size_t>(grid.rows * grid.columns), 0);
    int64_t frame = (first + l) * kLatentFrames, last = std::min(frame + kLatentFrames, reader.count());
    frame = std::min(frame, reader.count() - 1);
    int64_t frames = std::max<int64_t>(1, last - frame);
    for (int64_t f = frame; f < frame + frames; ++f) {
      LA_ASSIGN_OR_RETURN(const MaskImage* mask, reader.at(f));
      count_set(*mask, fit, grid, counts);
    }
    for (int64_t count : counts) tokens.push_back(2 * count > frames * kTokenPixels * kTokenPixels);
  }
  return tokens;
}

void assign_tokens(std::vector<TokenMask>& actors) {
  for (size_t later = 1; later < actors.size(); ++later) {
    for (size_t earlier = 0; earlier < later; ++earlier) {
      for (size_t i = 0; i < actors[later].size(); ++i) {
        if (actors[later][i] != 0) actors[earlier][i] = 0;
      }
    }
  }
}

void widen(TokenMask& mask, const TokenGrid& grid) {
  int64_t plane = grid.rows * grid.columns;
  for (int64_t l = 0; l < grid.latents; ++l) {
    uint8_t* latent = mask.data() + l * plane;
    const std::vector<uint8_t> before(latent, latent + plane);
    Box box(before.data(), grid);
    if (box.empty()) continue;
    int64_t radius = std::max<int64_t>(1, static_cast<int64_t>(0.1 * double(box.longer_side()) + 0.9999));
    for (int64_t i = 0; i < plane; ++i) {
      if (before[static_cast<size_t>(i)] != 0) set_square(latent, grid, i / grid.columns, i % grid.columns, radius);
    }
  }
}

std::vector<TokenMask> exclude_others(const std::vector<TokenMask>& actors) {
  std::vector<TokenMask> masks;
  for (size_t a = 0; a < actors.size(); ++a) {
    TokenMask& mask = masks.emplace_back(actors[a].size(), uint8_t{1});
    for (size_t other = 0; other < actors.size(); ++other) {
      for (size_t i = 0; i < mask.size() && other != a; ++i) {
        if (actors[other][i] != 0) mask[i] = 0;
      }
    }
  }
  return masks;
}

namespace {

bool any_lies_across(const std::vector<MaskSize>& masks, const MaskFit& fit) {
  return std::any_of(masks.begin(), masks.end(),
                     [&](const MaskSize& size) { return lies_across(size.height, size.width, fit); });
}

}  // namespace

Expected<size_t> orientation_bytes(const std::vector<MaskSize>& masks, const MaskFit& fit, const ImageFile& portrait) {
  if (!any_lies_across(masks, fit) || fit.orientation != 0) return size_t{0};
  LA_ASSIGN_OR_RETURN(ImageInfo info, portrait.probe(true, kWholeImage));
  return info.image_bytes + info.decode_bytes;
}

Expected<int> orientation_for(const std::vector<MaskSize>& masks, const MaskFit& fit, const ImageFile& portrait,
                              Budget& budget) {
  if (!any_lies_across(masks, fit)) return 1;
  if (fit.orientation != 0) return fit.orientation;
  LA_ASSIGN_OR_RETURN(size_t bytes, orientation_bytes(masks, fit, portrait));
  LA_ASSIGN_OR_RETURN(Charge charge, Charge::acquire(budget, MemoryCategory::kMedia, bytes));
  LA_ASSIGN_OR_RETURN(Image stored, portrait.read(false));
  LA_ASSIGN_OR_RETURN(Image upright, portrait.read(true));
  return orientation_between(stored, upright);
}

Expected<std::vector<MaskSize>> first_mask_sizes(const std::vector<MaskImages>& masks) {
  std::vector<MaskSize> sizes;
  for (const MaskImages& pictures : masks) {
    LA_ASSIGN_OR_RETURN(MaskSize size, mask_size(pictures.front()));
    sizes.push_back(size);
  }
  return sizes;
}

int64_t largest_pixels(const std::vector<MaskSize>& masks) {
  int64_t largest = 0;
  for (const MaskSize& size : masks) largest = std::max(largest, size.height * size.width);
  return largest;
}

bool masks_move(const std::vector<MaskImages>& masks, bool original) {
  return !original && std::any_of(masks.begin(), masks.end(), [](const MaskImages& p) { return p.size() > 1; });
}

Expected<ActorMasks> ActorMasks::open(Options options) {
  ActorMasks masks;
  masks.options_ = std::move(options);
  LA_RETURN_IF_ERROR(masks.read(0));
  return masks;
}

bool ActorMasks::moving() const { return masks_move(options_.pictures, options_.original); }

Status ActorMasks::read(int64_t block) {
  bool whole_clip = options_.original;
  TokenGrid grid{whole_clip ? options_.clip_latents : options_.block_latents, options_.fit.size.height / kTokenPixels,
                 options_.fit.size.width / kTokenPixels};
  std::vector<TokenMask> actors;
  int64_t first = block * options_.block_latents, most_pixels = options_.largest_pixels;
  for (const MaskImages& pictures : options_.pictures) {
    LA_ASSIGN_OR_RETURN(TokenMask tokens, whole_clip ? stretched_tokens(pictures, grid, most_pixels)
                                                     : fitted_tokens(pictures, options_.fit, first, grid, most_pixels));
    actors.push_back(std::move(tokens));
  }
  if (!whole_clip && block == 0) LA_RETURN_IF_ERROR(check_covered(actors));
  assign_tokens(actors);
  for (TokenMask& mask : actors) widen(mask, grid);
  masks_ = exclude_others(actors);
  held_ = block;
  return {};
}

Status ActorMasks::check_covered(const std::vector<TokenMask>& actors) const {
  for (size_t a = 0; a < actors.size(); ++a) {
    if (std::any_of(actors[a].begin(), actors[a].end(), [](uint8_t set) { return set != 0; })) continue;
    return invalid_argument("`masks` " + options_.pictures[a].front() + ": speaker " + std::to_string(a + 1) +
                            " is nowhere in the video; the mask is black, covers less than half of every square of 16 "
                            "pixels, or lies where the portrait is cropped");
  }
  return {};
}

Status ActorMasks::block(int64_t block, float* out) {
  if (moving() && block != held_) LA_RETURN_IF_ERROR(read(block));
  int64_t rows = options_.fit.size.height / kTokenPixels, columns = options_.fit.size.width / kTokenPixels;
  int64_t count = options_.block_latents * rows * columns;
  for (const TokenMask& mask : masks_) {
    std::copy_n(mask.begin(), count, out);
    out += count;
  }
  return {};
}

}  // namespace liveavatar
