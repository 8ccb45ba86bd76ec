// Address space for the way out once the system has no memory left: what cannot fail allocates too, as the destructor
// of a JSON value does, and the end of a coroutine. It belongs to the process: programs call this, the library never
// keeps one.
#pragma once

namespace liveavatar {

// What a failed operator new does when it has given out a part of the reserve: throw, so that a job ends where memory
// ran out first; or try again, for a server, which goes on and refuses what is new.
enum class OnLack { kThrow, kRetry };
void keep_memory_reserve(OnLack on_lack);

// Takes parts that were given out from the system again. false: it has none; who begins something new should refuse
// it. true where no reserve is kept. Any thread.
bool refill_memory_reserve() noexcept;

}  // namespace liveavatar
