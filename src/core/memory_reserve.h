// Address space for the way out once the system has no memory left: what cannot fail allocates too, as the destructor
// of a JSON value does, and the end of a coroutine. It belongs to the process: programs call this, the library never
// keeps one.
#pragma once

namespace liveavatar {

// A failed operator new is tried again with a part of the reserve, and throws when all parts are given out. Once, at
// the start of main().
void keep_memory_reserve();

// Takes parts that were given out from the system again. false: it has none; who begins something new should refuse
// it. true where no reserve is kept. Any thread.
bool refill_memory_reserve() noexcept;

}  // namespace liveavatar
