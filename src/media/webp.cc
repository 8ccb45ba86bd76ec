#include "media/webp.h"

#include <webp/demux.h>

#include <memory>
#include <string>

namespace liveavatar {

Expected<Image> read_animated_webp(const ReadFile& file) {
  std::string bytes = file.bytes_at(0, file.size());
  LA_RETURN_IF_ERROR(file.status());
  WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
  WebPAnimDecoderOptions options;
  WebPAnimDecoderOptionsInit(&options);
  options.color_mode = MODE_RGBA;
  std::unique_ptr<WebPAnimDecoder, decltype(&WebPAnimDecoderDelete)> decoder(WebPAnimDecoderNew(&data, &options),
                                                                             WebPAnimDecoderDelete);
  WebPAnimInfo info{};
  uint8_t* rgba = nullptr;
  int shown_ms = 0;
  bool decoded = decoder && WebPAnimDecoderGetInfo(decoder.get(), &info) != 0;
  decoded = decoded && WebPAnimDecoderGetNext(decoder.get(), &rgba, &shown_ms) != 0;
  if (!decoded)
    return corrupt(file.path() +
                   ": the animated WebP cannot be decoded; it is damaged or cut off; save or copy it again");
  Image image{info.canvas_height, info.canvas_width, {}};
  size_t pixels = size_t{info.canvas_height} * info.canvas_width;
  image.rgb.resize(pixels * 3);
  for (size_t i = 0; i < pixels; ++i) std::copy_n(rgba + i * 4, 3, image.rgb.data() + i * 3);
  return image;
}

}  // namespace liveavatar
