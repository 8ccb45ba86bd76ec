// Integer division and rounding for values that are not negative.
#pragma once

#include <concepts>
#include <type_traits>

namespace liveavatar {

// n / size, rounded up.
template <std::integral T>
constexpr T ceil_div(T n, std::type_identity_t<T> size) {
  return (n + size - 1) / size;
}

// n rounded up to a multiple of `size`.
template <std::integral T>
constexpr T round_up(T n, std::type_identity_t<T> size) {
  return ceil_div(n, size) * size;
}

}  // namespace liveavatar
