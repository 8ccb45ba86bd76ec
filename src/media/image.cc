#include "media/image.h"

#include <charconv>
#include <cmath>

namespace liveavatar {
namespace {

constexpr int64_t kLargestSide = 20000;

}  // namespace

Expected<Sides> parse_sides(const std::string& size) {
  auto wrong = [&size] {
    return invalid_argument("`size` \"" + size + "\": write it as width*height, for example \"688*368\"");
  };
  size_t cross = size.find_first_of("*xX");
  if (cross == std::string::npos) return wrong();
  int64_t sides[2] = {0, 0};
  const char* begins[2] = {size.data(), size.data() + cross + 1};
  const char* ends[2] = {size.data() + cross, size.data() + size.size()};
  for (int i = 0; i < 2; ++i) {
    auto [end, error] = std::from_chars(begins[i], ends[i], sides[i]);
    if (error != std::errc() || end != ends[i]) return wrong();
    if (sides[i] < 1 || sides[i] > kLargestSide)
      return invalid_argument("`size` \"" + size + "\": each side must be from 1 to 20000");
  }
  if (sides[0] * sides[1] < 64 * 64)
    return invalid_argument("`size` \"" + size + "\": the area must hold at least 64*64 pixels");
  if (sides[0] * sides[1] > (int64_t{1} << 26))
    return invalid_argument("`size` \"" + size + "\": that is more than 67 million pixels");
  return Sides{sides[0], sides[1]};
}

Expected<int64_t> parse_size(const std::string& size) {
  LA_ASSIGN_OR_RETURN(Sides sides, parse_sides(size));
  return sides.area();
}

Expected<WorkingSize> working_size(int64_t image_height, int64_t image_width, int64_t area) {
  constexpr double kDivisor = 64;
  double h = double(image_height), w = double(image_width), pixels = h * w;
  double most = 1, least = 0.1;
  if (pixels > double(area)) {
    most = std::sqrt(double(area) / pixels);
    double a = pixels, b = (kDivisor - 1) * (h + w), c = (kDivisor - 1) * (kDivisor - 1) - double(area);
    least = (-b + std::sqrt(b * b - 2 * a * c)) / (2 * a);
  }
  for (int i = 0; i < 100; ++i) {
    double scale = most - (most - least) / 100 * i;
    auto padded = [scale](double side) {
      int64_t whole = static_cast<int64_t>(side * scale);
      return whole + (64 - whole % 64) % 64;
    };
    WorkingSize size{padded(h), padded(w)};
    if (size.height * size.width > area) continue;
    if (size.height > 0 && size.width > 0) return size;
    break;
  }
  return corrupt("an image of " + std::to_string(image_width) + "x" + std::to_string(image_height) +
                 " cannot be fitted into " + std::to_string(area) +
                 " pixels with sides of 64 or more; crop it to a portrait, or raise `size`");
}

void image_to_pixels(const Image& image, float* pixels) {
  int64_t plane = image.height * image.width;
  for (int64_t i = 0; i < plane * 3; ++i)
    pixels[i % 3 * plane + i / 3] = static_cast<float>(image.rgb[size_t(i)]) / 255.0f * 2.0f - 1.0f;
}

}  // namespace liveavatar
