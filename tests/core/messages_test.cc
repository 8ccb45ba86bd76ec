// What a message shows: sizes that do not contradict each other, and one line whatever a user's text holds.
#include <gtest/gtest.h>

#include <stdexcept>

#include "core/boundary.h"
#include "core/size_text.h"

namespace liveavatar {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

TEST(SizeText, ALimitIsNeverRoundedToAnother) {
  EXPECT_EQ(limit_text(1), "1 byte");
  EXPECT_EQ(limit_text(kMiB - 1), "1048575 bytes");
  EXPECT_EQ(limit_text(75 * kMiB), "75MiB");
  EXPECT_EQ(limit_text(76 * kMiB - 1), "75.999MiB (79691775 bytes)");
}

TEST(SizeText, WhatFitsIsNotShownBeyondTheLimit) {
  EXPECT_EQ(need_text(75 * kMiB + 1, 75 * kMiB), "76MiB");
  EXPECT_EQ(need_text(75 * kMiB + 1, 76 * kMiB), "76MiB");
  EXPECT_EQ(need_text(75 * kMiB + kMiB / 4, 76 * kMiB - 1), "75.250MiB");
  EXPECT_EQ(need_text(76 * kMiB - 1, 76 * kMiB - 1), "79691775 bytes");
  EXPECT_EQ(need_text(1, 0), "1MiB");
}

TEST(Boundary, AMessageIsOneLine) {
  Status status = contained("test", []() -> Status { return invalid_argument("size \"64*64\n\": no"); });
  EXPECT_EQ(status.message(), "size \"64*64?\": no");
  EXPECT_EQ(status.code(), ErrorCode::kInvalidArgument);
  auto value = contained("test", []() -> Expected<int> { return not_found("a\tb"); });
  EXPECT_EQ(value.status().message(), "a?b");
  Status thrown = contained("test", []() -> Status { throw std::runtime_error("two\nlines"); });
  EXPECT_EQ(thrown.message(), "test: two?lines");
}

}  // namespace
}  // namespace liveavatar
