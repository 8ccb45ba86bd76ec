// Whether a sanitizer watches this program. It is ten times as slow then, and one repetition shows what many would.
#pragma once

namespace liveavatar {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace liveavatar
