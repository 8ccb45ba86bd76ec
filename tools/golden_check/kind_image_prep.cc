// Working sizes, resize and crop of images of every kind, bit for bit.
#include <stdexcept>

#include "golden.h"
#include "media/image.h"

namespace liveavatar::golden {
namespace {

void check_size(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  auto size = working_size(args.at("image_height"), args.at("image_width"), args.at("area"));
  std::string name = std::to_string(args.at("image_height").get<int>()) + "x" +
                     std::to_string(args.at("image_width").get<int>()) + " in " + args.at("size").get<std::string>();
  if (call.contains("engine_should") || !call.at("out").contains("height") || call.at("out").at("height") == 0 ||
      call.at("out").at("width") == 0) {
    golden.exact(name + " refused", !size.ok());  // a strip gives a side of zero in the original
    return;
  }
  if (!golden.ok(name, size.status())) return;
  golden.exact(name, size->height == call.at("out").at("height") && size->width == call.at("out").at("width"),
               "got " + std::to_string(size->height) + "x" + std::to_string(size->width));
}

void check_image(const Golden& golden, const nlohmann::json& call) {
  const auto& args = call.at("args");
  std::string file = args.at("file");
  auto image = read_image(golden.path(file), false);
  if (!golden.ok(file, image.status())) return;
  if (call.at("out").contains("decoded")) {
    std::vector<int32_t> decoded = golden.i32(call.at("out").at("decoded"));
    golden.exact(file + " decoded", std::equal(decoded.begin(), decoded.end(), image->rgb.begin(), image->rgb.end()));
  }
  Image fitted = fit_image(*image, {args.at("height"), args.at("width")}, Fit::kOriginal);
  std::vector<float> pixels(fitted.rgb.size());
  image_to_pixels(fitted, pixels.data());
  golden.compare(call.at("out").at("pixels"), pixels);
}

}  // namespace

void check_image_prep(const Golden& golden) {
  for (const auto& call : golden.calls()) {
    std::string op = call.at("op");
    if (op == "working_size") {
      check_size(golden, call);
    } else if (op == "prepare") {
      check_image(golden, call);
    } else {
      throw std::runtime_error("unknown op '" + op + "'");
    }
  }
}

}  // namespace liveavatar::golden
