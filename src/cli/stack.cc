#include "cli/stack.h"

#include <pthread.h>
#include <sys/resource.h>

#include <string>

#include "cli/commands.h"
#include "core/status.h"

namespace liveavatar::cli {
namespace {

constexpr size_t kStackBytes = size_t{2} << 20;  // what the C library takes where there is no limit

bool is_enough() {
  rlimit limit{};
  return ::getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= kStackBytes;
}

struct Run {
  const std::function<int()>& program;
  int code = 1;
};

void* run(void* opaque) {
  auto* run = static_cast<Run*>(opaque);
  run->code = run->program();
  return nullptr;
}

}  // namespace

int with_enough_stack(const std::function<int()>& program) {
  if (is_enough()) return program();
  Run main{program};
  pthread_attr_t settings;
  pthread_t thread{};
  ::pthread_attr_init(&settings);
  ::pthread_attr_setstacksize(&settings, kStackBytes);
  ::pthread_setattr_default_np(&settings);  // of threads that ask for nothing: ours and the encoder's
  int error = ::pthread_create(&thread, &settings, run, &main);
  ::pthread_attr_destroy(&settings);
  if (error != 0)
    return report(out_of_memory("the stack is limited to less than " + std::to_string(kStackBytes >> 10) +
                                " KiB and the system gives no thread with more; raise the limit (ulimit -s, -v)"));
  ::pthread_join(thread, nullptr);
  return main.code;
}

}  // namespace liveavatar::cli
