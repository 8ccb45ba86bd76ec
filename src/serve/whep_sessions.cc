#include "serve/whep_sessions.h"

#include <utility>

namespace liveavatar::serve {

void WhepSessions::open(const LiveServices& services, http::Request request, http::Reply reply) {
  std::shared_ptr<WhepSession> session;
  try {
    session = std::make_shared<WhepSession>(WhepServices{services, peers_, settings_}, random_id());
    std::lock_guard lock(mutex_);
    sessions_[session->id()] = session;
    if (ended_) session->end();
  } catch (...) {
    services.turn.give_back_live();
    throw;
  }
  try {
    session->begin(std::move(request), std::move(reply));
  } catch (...) {
    session->end();
    throw;
  }
}

bool WhepSessions::end(const std::string& id) {
  std::shared_ptr<WhepSession> session;
  {
    std::lock_guard lock(mutex_);
    const auto at = sessions_.find(id);
    if (at == sessions_.end()) return false;
    session = at->second;
    sessions_.erase(at);
  }
  session->end();
  return true;
}

void WhepSessions::end_all() {
  std::lock_guard lock(mutex_);
  ended_ = true;
  for (const auto& [id, session] : sessions_) session->end();
}

void WhepSessions::check_time() {
  std::lock_guard lock(mutex_);
  std::erase_if(sessions_, [](const auto& entry) { return entry.second->is_gone(); });
  for (const auto& [id, session] : sessions_) session->check_time();
}

}  // namespace liveavatar::serve
