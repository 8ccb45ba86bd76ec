#include "media/heif.h"

#include <libheif/heif.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace liveavatar {
namespace {

template <auto free>
struct FreeWith {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Context = std::unique_ptr<heif_context, FreeWith<heif_context_free>>;
using Handle = std::unique_ptr<heif_image_handle, FreeWith<heif_image_handle_release>>;
using HeifImage = std::unique_ptr<heif_image, FreeWith<heif_image_release>>;

// libheif reads what it needs when it needs it, also while it decodes.
struct Reader {
  SharedFile file;
  int64_t at = 0;
};

int64_t position(void* data) { return static_cast<Reader*>(data)->at; }

int read_all(void* to, size_t count, void* data) {
  Reader& reader = *static_cast<Reader*>(data);
  const auto wanted = static_cast<int64_t>(count);
  const int64_t got = reader.file->read_at(to, reader.at, wanted);
  reader.at += got;
  return got == wanted ? 0 : 1;
}

int seek_to(int64_t offset, void* data) {
  static_cast<Reader*>(data)->at = offset;
  return 0;
}

heif_reader_grow_status reaches(int64_t size, void* data) {
  const int64_t file_size = static_cast<Reader*>(data)->file->size();
  return size > file_size ? heif_reader_grow_status_size_beyond_eof : heif_reader_grow_status_size_reached;
}

constexpr heif_reader kReader = {1, position, read_all, seek_to, reaches};

struct Opened {
  std::unique_ptr<Reader> reader;  // before `context`, which reads through it
  Context context;
  Handle picture;
  std::string kind;  // "HEIC", "AVIF"
};

std::string kind_of(const std::string& head) {
  heif_brand brand = heif_main_brand(reinterpret_cast<const uint8_t*>(head.data()), static_cast<int>(head.size()));
  return brand == heif_avif || brand == heif_avis ? "AVIF" : "HEIC";
}

Status refusal(const ReadFile& file, const std::string& kind, const heif_error& error) {
  LA_RETURN_IF_ERROR(file.status());
  const std::string& path = file.path();
  std::string why = error.message ? error.message : "";
  std::replace(why.begin(), why.end(), '\n', ' ');
  if (error.code == heif_error_Unsupported_feature || error.code == heif_error_Unsupported_filetype ||
      error.code == heif_error_Plugin_loading_error) {
    return unsupported(path + ": libheif cannot decode this " + kind + " image here (" + why +
                       "); save it as PNG or JPEG");
  }
  return corrupt(path + ": the " + kind + " image is damaged or cut off (" + why +
                 "); copy it again, or save it as PNG or JPEG");
}

Expected<Opened> open_primary(const SharedFile& file) {
  Opened opened{std::make_unique<Reader>(Reader{file}), Context(heif_context_alloc()), nullptr,
                kind_of(file->bytes_at(0, 64))};
  heif_error error = heif_context_read_from_reader(opened.context.get(), &kReader, opened.reader.get(), nullptr);
  if (error.code != heif_error_Ok) return refusal(*file, opened.kind, error);
  heif_image_handle* handle = nullptr;
  error = heif_context_get_primary_image_handle(opened.context.get(), &handle);
  opened.picture.reset(handle);
  if (error.code != heif_error_Ok) return refusal(*file, opened.kind, error);
  return opened;
}

}  // namespace

bool is_heif(const std::string& head) {
  constexpr const char* kBrands[] = {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1", "avif", "avis"};
  if (head.size() < 12 || head.compare(4, 4, "ftyp") != 0) return false;
  return std::any_of(std::begin(kBrands), std::end(kBrands),
                     [&head](const char* brand) { return head.compare(8, 4, brand) == 0; });
}

Expected<HeifSize> read_heif_size(const SharedFile& file) {
  LA_ASSIGN_OR_RETURN(Opened opened, open_primary(file));
  const heif_image_handle* picture = opened.picture.get();
  HeifSize size;
  size.stored = {heif_image_handle_get_ispe_width(picture), heif_image_handle_get_ispe_height(picture)};
  size.upright = {heif_image_handle_get_width(picture), heif_image_handle_get_height(picture)};
  // libheif's planes, the same turned, and as RGB.
  size.sample_bytes = 9.0 * (heif_image_handle_get_luma_bits_per_pixel(picture) > 8 ? 2 : 1);
  return size;
}

Expected<Image> read_heif(const SharedFile& file, bool upright) {
  LA_ASSIGN_OR_RETURN(Opened opened, open_primary(file));
  std::unique_ptr<heif_decoding_options, FreeWith<heif_decoding_options_free>> options(heif_decoding_options_alloc());
  options->ignore_transformations = upright ? 0 : 1;
  options->strict_decoding = 1;
  options->convert_hdr_to_8bit = 1;
  heif_image* decoded = nullptr;
  heif_error error = heif_decode_image(opened.picture.get(), &decoded, heif_colorspace_RGB, heif_chroma_interleaved_RGB,
                                       options.get());
  HeifImage source(decoded);
  if (error.code != heif_error_Ok) return refusal(*file, opened.kind, error);
  int stride = 0;
  const uint8_t* rows = heif_image_get_plane_readonly(source.get(), heif_channel_interleaved, &stride);
  Image image{heif_image_get_primary_height(source.get()), heif_image_get_primary_width(source.get()), {}, 0};
  size_t row = static_cast<size_t>(image.width) * 3;
  image.rgb.resize(row * static_cast<size_t>(image.height));
  for (int64_t y = 0; y < image.height; ++y)
    std::memcpy(image.rgb.data() + static_cast<size_t>(y) * row, rows + y * stride, row);
  return image;
}

}  // namespace liveavatar
