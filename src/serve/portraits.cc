#include "serve/portraits.h"

#include <algorithm>

#include "media/image.h"

namespace liveavatar::serve {

bool Portraits::is_name(std::string_view name) {
  auto fits = [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  };
  return !name.empty() && name.size() <= kMostNameBytes && std::all_of(name.begin(), name.end(), fits);
}

Expected<Portrait> Portraits::read(std::string_view bytes) const {
  if (bytes.empty()) return invalid_argument("the portrait is empty; send an image: PNG, JPEG, WebP, HEIC and others");
  Portrait portrait;
  LA_ASSIGN_OR_RETURN(portrait.file, folder_.write(bytes));
  constexpr int64_t kEnough = 1 << 20;  // pixels
  const auto info = probe_image(portrait.file->path(), true, kEnough);
  if (!info.ok())
    return invalid_argument("the portrait is no image that can be read; send a PNG, JPEG, WebP, HEIC or another still");
  portrait.bytes = bytes.size();
  portrait.width = info->width;
  portrait.height = info->height;
  return portrait;
}

Expected<Portrait> Portraits::put(const std::string& name, std::string_view bytes) {
  if (!is_name(name))
    return invalid_argument("a portrait's name has 1 to 64 letters, digits, \"-\" and \"_\"; choose another");
  LA_ASSIGN_OR_RETURN(Portrait portrait, read(bytes));
  portrait.name = name;
  std::lock_guard lock(mutex_);
  if (!portraits_.contains(name) && portraits_.size() >= kMost)
    return out_of_memory("there are 256 portraits already; delete one");
  portraits_[name] = portrait;
  return portrait;
}

Expected<Portrait> Portraits::get(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto found = portraits_.find(name);
  if (found == portraits_.end())
    return not_found("there is no portrait of that name; PUT it to /v1/portraits/{name} first");
  return found->second;
}

bool Portraits::remove(const std::string& name) {
  std::lock_guard lock(mutex_);
  return portraits_.erase(name) > 0;
}

std::vector<Portrait> Portraits::all() const {
  std::lock_guard lock(mutex_);
  std::vector<Portrait> all;
  for (const auto& [name, portrait] : portraits_) all.push_back(portrait);
  return all;
}

}  // namespace liveavatar::serve
