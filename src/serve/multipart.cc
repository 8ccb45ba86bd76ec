#include "serve/multipart.h"

#include <optional>

#include "core/text.h"

namespace liveavatar::serve {
namespace {

constexpr size_t kMostParts = 64, kMostHeadBytes = 4096;

Status broken(const std::string& what) {
  return invalid_argument("the form is broken: " + what + "; send multipart/form-data as curl -F does");
}

// `name="value"` or name=value of a header's parameters, where the name begins a parameter.
std::optional<std::string> parameter(std::string_view header, std::string_view name) {
  for (size_t at = header.find(';'); at != std::string_view::npos; at = header.find(';', at)) {
    at = header.find_first_not_of(" \t;", at);
    if (at == std::string_view::npos) break;
    const std::string_view rest = header.substr(at);
    const size_t equals = rest.find('=');
    if (equals == std::string_view::npos) break;
    std::string_view value = rest.substr(equals + 1);
    const bool quoted = value.starts_with('"');
    const size_t end = quoted ? value.find('"', 1) : value.find_first_of("; \t");
    if (quoted && end == std::string_view::npos) break;
    value = quoted ? value.substr(1, end - 1) : value.substr(0, end);
    if (lower_case(std::string(rest.substr(0, equals))) == name) return std::string(value);
    at = end == std::string_view::npos ? header.size()
                                       : static_cast<size_t>(value.data() - header.data()) + value.size();
  }
  return {};
}

Expected<FormPart> parse_part(std::string_view text) {
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string_view::npos || end > kMostHeadBytes) return broken("a part has no end of its head");
  FormPart part;
  part.bytes = text.substr(end + 4);
  for (std::string_view head = text.substr(0, end + 2); !head.empty();) {
    const size_t line_end = head.find("\r\n");
    const std::string_view line = head.substr(0, line_end);
    head.remove_prefix(line_end + 2);
    if (!lower_case(std::string(line.substr(0, line.find(':')))).starts_with("content-disposition")) continue;
    part.name = parameter(line, "name").value_or("");
    part.is_file = parameter(line, "filename").has_value();
  }
  if (part.name.empty()) return broken("a part has no name");
  return part;
}

}  // namespace

Expected<std::vector<FormPart>> parse_form(std::string_view content_type, std::string_view body) {
  const std::optional<std::string> boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > 70) return broken("it names no boundary");
  const std::string first = "--" + *boundary, between = "\r\n" + first;
  std::vector<FormPart> parts;
  size_t at = body.starts_with(first) ? 0 : body.find(between);
  if (at == std::string_view::npos) return broken("its boundary does not occur");
  at += at == 0 ? first.size() : between.size();
  while (!body.substr(at).starts_with("--")) {
    const size_t line = body.find("\r\n", at);
    if (line == std::string_view::npos) return broken("it ends within a boundary");
    const size_t end = body.find(between, line);
    if (end == std::string_view::npos) return broken("its last part does not end");
    if (parts.size() == kMostParts) return broken("it has more than 64 parts");
    const size_t begin = line + 2;
    LA_ASSIGN_OR_RETURN(FormPart part, parse_part(begin <= end ? body.substr(begin, end - begin) : ""));
    parts.push_back(std::move(part));
    at = end + between.size();
  }
  return parts;
}

}  // namespace liveavatar::serve
