// PyTorch files: good ones give every listed tensor with the stated bytes, bad ones are refused with a reason.
#include <openssl/sha.h>

#include <algorithm>

#include "golden.h"

namespace liveavatar::golden {
namespace {

std::string sha256(const std::vector<unsigned char>& bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(bytes.data(), bytes.size(), digest);
  std::string hex;
  for (unsigned char b : digest) {
    char text[3];
    std::snprintf(text, sizeof(text), "%02x", b);
    hex += text;
  }
  return hex;
}

std::string shape_text(const nlohmann::json& shape) {
  Shape s;
  for (const auto& d : shape) s.push_back(d);
  return s.str();
}

// Empty: all tensors are as stated.
std::string compare(const TensorSource& source, const nlohmann::json& tensors) {
  if (source.tensors().size() != tensors.size()) return "has " + std::to_string(source.tensors().size()) + " tensors";
  for (const auto& [name, want] : tensors.items()) {
    auto it = source.tensors().find(name);
    if (it == source.tensors().end()) return "lacks " + name;
    if (it->second.shape.str() != shape_text(want.at("shape"))) return name + " has shape " + it->second.shape.str();
    if (want.at("dtype") != dtype_name(it->second.dtype)) return name + " has dtype " + dtype_name(it->second.dtype);
    std::vector<unsigned char> bytes(static_cast<size_t>(it->second.shape.elements()) * dtype_bytes(it->second.dtype));
    Status status = source.read(name, bytes.data());
    if (!status.ok()) return status.message();
    if (sha256(bytes) != want.at("sha256")) return name + " has other bytes";
  }
  return "";
}

}  // namespace

void check_torch_pth(const Golden& golden) {
  for (const auto& call : golden.calls()) {
    std::string file = call.at("file");
    auto source = open_torch(golden.path(file), false);
    if (call.at("expect") == "tensors") {
      if (!golden.ok(file, source.status())) continue;
      std::string problem = compare(**source, call.at("tensors"));
      golden.exact(file, problem.empty(), problem);
      continue;
    }
    std::string message = source.status().message(), name = call.value("must_name", std::string());
    bool refused = !source.ok() && message.find(file) != std::string::npos && message.find(name) != std::string::npos;
    golden.exact(file + " refused", refused, source.ok() ? "it was read" : message);
  }
}

}  // namespace liveavatar::golden
