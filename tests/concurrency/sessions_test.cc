// Several videos on one model at once: their forwards go through a layer together, and each video's bits are those of a
// run alone, whatever runs beside it.
#include <gtest/gtest.h>

#include "session_video.h"
#include "support/mini.h"

namespace liveavatar {
namespace {

TEST(Sessions, TogetherGiveTheBitsOfEachAlone) {
  auto models = *Models::load(mini_options());
  auto pages = *models->dit->open_pages(models->shapes.dit.layers, *models->budget);
  const std::vector<VideoKind> kinds = video_kinds();
  std::vector<std::vector<float>> alone;
  for (const VideoKind& kind : kinds) alone.push_back(latents_together(*models, *pages, {kind}).front());
  for (size_t count = 2; count <= kinds.size(); ++count) {
    const std::vector<VideoKind> some(kinds.begin(), kinds.begin() + static_cast<int64_t>(count));
    const std::vector<std::vector<float>> together = latents_together(*models, *pages, some);
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(together[i], alone[i]) << i << " of " << count;
  }
}

}  // namespace
}  // namespace liveavatar
