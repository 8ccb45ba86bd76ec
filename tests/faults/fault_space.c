#include "fault_space.h"

#include <stdatomic.h>
#include <time.h>

static atomic_long written_bytes;
static bool is_limited;
static long most_bytes, until_free_ms;
static atomic_long full_since_ms;  // 0: it was not full yet

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void limit_space(long bytes, long free_after_ms) {
  is_limited = true;
  most_bytes = bytes;
  until_free_ms = free_after_ms;
}

long space_written(void) { return atomic_load(&written_bytes); }

static bool is_free_again(void) {
  const long since = atomic_load(&full_since_ms);
  return until_free_ms > 0 && since > 0 && now_ms() - since >= until_free_ms;
}

static void note_full(void) {
  long never = 0;
  atomic_compare_exchange_strong(&full_since_ms, &never, now_ms());
}

long take_space(long bytes) {
  long before = atomic_load(&written_bytes);
  const bool takes_all = !is_limited || is_free_again();
  long taken = 0;
  do {
    const long left = before < most_bytes ? most_bytes - before : 0;
    taken = takes_all || bytes <= left ? bytes : left;
  } while (!atomic_compare_exchange_weak(&written_bytes, &before, before + taken));
  if (taken == 0) note_full();
  return taken;
}

bool has_space(long bytes) {
  if (!is_limited || is_free_again() || space_written() + bytes <= most_bytes) return true;
  note_full();
  return false;
}
