#include "serve/page.h"

#include <utility>

namespace liveavatar::serve {

const PageFile* find_page_file(std::string_view path) {
  if (path == "/") path = "/index.html";
  for (unsigned i = 0; i < kPageFileCount; ++i)
    if (kPageFiles[i].path == path) return &kPageFiles[i];
  return nullptr;
}

std::string content_type_of(std::string_view path) {
  constexpr std::pair<std::string_view, const char*> kTypes[] = {{".html", "text/html; charset=utf-8"},
                                                                 {".css", "text/css; charset=utf-8"},
                                                                 {".js", "text/javascript; charset=utf-8"},
                                                                 {".json", "application/json"},
                                                                 {".svg", "image/svg+xml"},
                                                                 {".png", "image/png"},
                                                                 {".ico", "image/x-icon"},
                                                                 {".webp", "image/webp"}};
  for (const auto& [ending, type] : kTypes)
    if (path.ends_with(ending)) return type;
  return "application/octet-stream";
}

}  // namespace liveavatar::serve
