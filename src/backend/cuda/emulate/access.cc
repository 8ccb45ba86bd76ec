#include "backend/cuda/emulate/access.h"

#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstring>

#include "backend/cuda/emulate/device_memory.h"
#include "backend/cuda/emulate/processor.h"
#include "backend/cuda/emulate/shared_memory.h"

namespace liveavatar::cuda::emulate {
namespace {

bool tracing = false;

std::string base_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

// Asks addr2line: it is slow, and only a finding needs it.
std::string line_of(const void* instruction) {
  Dl_info info;
  if (instruction == nullptr || dladdr(instruction, &info) == 0) return "?";
  const std::string offset = hex(size_t(instruction) - size_t(info.dli_fbase) - 1);
  const std::string command = "addr2line -e '" + std::string(info.dli_fname) + "' " + offset + " 2>/dev/null";
  char line[512] = "?";
  if (FILE* output = popen(command.c_str(), "r")) {
    if (std::fgets(line, sizeof line, output) == nullptr) std::strcpy(line, "?");
    pclose(output);
  }
  const std::string text = base_name(line);
  return text.substr(0, text.find_first_of(" \n"));
}

}  // namespace

std::string hex(size_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%zx", value);
  return text;
}

std::string Place::text() const {
  if (where_ == nullptr) return line_of(instruction_);
  return base_name(where_->file) + ":" + std::to_string(where_->line);
}

bool is_tracing() { return tracing; }
void start_tracing() { tracing = true; }

void check_access(const Access& access) {
  if (size_t(access.at) % access.bytes != 0)
    fail("not aligned to " + std::to_string(access.bytes) + " bytes", access.place);
  Processor& p = *running;
  if (p.in_shared(access.at)) {
    if (tracing) check_shared(p, access);
    return;
  }
  DeviceMemory& memory = device_memory();
  if (!memory.holds(access.at)) fail("neither shared nor global memory: " + hex(size_t(access.at)), access.place);
  if (tracing) {
    check_global(memory, p.block_number, access);
  } else {
    check_allocated(memory, access);
  }
}

void check_instruction(const Access& access, bool aligned) {
  Processor* p = running;
  if (p == nullptr || p->current == nullptr) return;  // the host part of a kernel's file
  const size_t address = size_t(access.at);
  if (address - size_t(p->current->fiber.stack) < kStackBytes) return;
  if (!access.writes() && address - size_t(p->parameters) < p->parameter_bytes) return;
  if (aligned && address % access.bytes != 0)
    fail("an access of " + std::to_string(access.bytes) + " bytes that is not aligned", access.place);
  if (p->in_shared(access.at)) {
    check_shared(*p, access);
  } else if (device_memory().holds(access.at)) {
    check_global(device_memory(), p->block_number, access);
  } else {
    fail("touches host memory at " + hex(address), access.place);
  }
}

int atomic_add(int* at, int value, Where where) {
  check_access({at, sizeof(int), AccessKind::kAtomic, where});
  return std::atomic_ref<int>(*at).fetch_add(value);
}

}  // namespace liveavatar::cuda::emulate
