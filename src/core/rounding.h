// Whole parts of whole numbers, none of them negative.
#pragma once

#include <concepts>
#include <type_traits>

namespace liveavatar {

// How many parts of `size` hold n.
template <std::integral T>
constexpr T ceil_div(T n, std::type_identity_t<T> size) {
  return (n + size - 1) / size;
}

// The least multiple of `size` that is not below n.
template <std::integral T>
constexpr T round_up(T n, std::type_identity_t<T> size) {
  return ceil_div(n, size) * size;
}

}  // namespace liveavatar
