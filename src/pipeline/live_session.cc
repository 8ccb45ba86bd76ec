#include <utility>

#include "core/boundary.h"
#include "pipeline/engine.h"
#include "pipeline/live_feed.h"

namespace liveavatar {

LiveSession::LiveSession(std::shared_ptr<LiveFeed> feed) : feed_(std::move(feed)) {}
LiveSession::~LiveSession() { feed_->close(); }
int64_t LiveSession::width() const { return feed_->width(); }
int64_t LiveSession::height() const { return feed_->height(); }
Status LiveSession::push(std::span<const int16_t> samples) {
  return contained("push", [&] { return feed_->push(samples); });
}
Status LiveSession::push(std::span<const float> samples) {
  return contained("push", [&] { return feed_->push(samples); });
}
Status LiveSession::end_speech() { return feed_->end_speech(); }
Expected<LivePosition> LiveSession::interrupt() { return feed_->interrupt(); }
Expected<int64_t> LiveSession::set_prompt(const std::string& prompt) {
  return contained("set_prompt", [&] { return feed_->set_prompt(prompt); });
}
Expected<int64_t> LiveSession::set_portrait(const std::string& image) {
  return contained("set_portrait", [&] { return feed_->set_portrait(image); });
}
void LiveSession::close() { feed_->close(); }

}  // namespace liveavatar
