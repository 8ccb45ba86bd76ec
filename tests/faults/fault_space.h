// The disk of fault_shim.c: what was written to it, and what it still takes.
#pragma once

#include <stdbool.h>

// It is full after so many bytes; free_after_ms after it was found full it has room again, for good; 0: never.
void limit_space(long bytes, long free_after_ms);
long space_written(void);
// How many of `bytes` it takes; 0: it is full.
long take_space(long bytes);
bool has_space(long bytes);
