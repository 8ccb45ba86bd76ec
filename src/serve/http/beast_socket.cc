// One coroutine reads, a chain of writes sends what is queued.
#include "serve/http/beast_socket.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <stdexcept>

namespace liveavatar::http {
namespace {

using namespace std::chrono_literals;
constexpr auto kCloseTime = 5s, kFlushTime = 30s;
constexpr auto kStopPause = 20ms;
constexpr int kTryLater = 1013;
constexpr size_t kMostPostedBytes = 1 << 20;  // beside the queue of send()

websocket::close_reason reason_of(int code, const std::string& text) {
  constexpr size_t kMostBytes = 120;  // of a control frame
  websocket::close_reason reason;
  reason.code = static_cast<uint16_t>(code);
  reason.reason = text.substr(0, kMostBytes);
  return reason;
}

// A message that the system has no memory for is an error of reading.
class MessageBuffer : public beast::flat_buffer {
 public:
  mutable_buffers_type prepare(size_t bytes) {
    try {
      return beast::flat_buffer::prepare(bytes);
    } catch (const std::bad_alloc&) {
      throw std::length_error("no memory");  // Beast knows this one: error::buffer_overflow
    }
  }
};

std::string close_frame(const websocket::close_reason& close) {
  constexpr char kFinalClose = '\x88';
  const std::string_view text(close.reason.data(), close.reason.size());
  std::string frame{kFinalClose, static_cast<char>(2 + text.size()), static_cast<char>(close.code >> 8),
                    static_cast<char>(close.code & 0xff)};
  frame += text;
  return frame;
}

class BeastSocket final : public Socket, public Connection, public std::enable_shared_from_this<BeastSocket> {
 public:
  BeastSocket(std::shared_ptr<net::io_context> io, ClientStream stream, size_t queue_bytes)
      : io_(std::move(io)),
        most_bytes_(queue_bytes),
        stream_(std::move(stream)),
        close_timer_(*io_),
        stop_timer_(*io_) {}

  Sent send(Message message, std::chrono::milliseconds patience) override;
  bool post(Message message) override;
  void close(int code, const std::string& reason) override;
  void drop(int code, const std::string& reason) override;
  void abort() override;
  net::awaitable<bool> run(BeastRequest request, SocketSetup setup);

 private:
  struct Item {
    Message message;
    std::optional<websocket::close_reason> close;
    bool is_posted = false;
  };
  size_t& bytes_of(const Item& item) { return item.is_posted ? posted_bytes_ : sent_bytes_; }
  void enqueue(Item item);  // with the lock
  void forget(const Item& item);
  void abort_after(std::chrono::seconds time);
  void write_next();
  void written(const error_code& error);
  void begin_write();
  void mark_closed();
  void stop_reading();
  void end(SocketHandler& handler) noexcept;
  net::awaitable<void> refuse_message();
  net::awaitable<void> say_goodbye();
  net::awaitable<void> accept_and_read(const BeastRequest& request, const SocketSetup& setup);
  net::awaitable<void> read_all(SocketHandler& handler);

  std::shared_ptr<net::io_context> io_;  // first: the stream belongs to it
  const size_t most_bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> queue_;                    // the first one is being written
  size_t sent_bytes_ = 0, posted_bytes_ = 0;  // that are queued, by send() and post()
  bool writing_ = false, closing_ = false, closed_ = false, was_opened_ = false;
  websocket::stream<ClientStream> stream_;
  net::steady_timer close_timer_, stop_timer_;
  // On the I/O thread.
  bool reading_ = false;
  std::optional<websocket::close_reason> goodbye_;
};

void BeastSocket::enqueue(Item item) {
  queue_.push_back(std::move(item));
  if (queue_.back().message.data) bytes_of(queue_.back()) += queue_.back().message.data->size();
  if (writing_) return;
  net::post(*io_, [self = shared_from_this()] { self->write_next(); });
  writing_ = true;
}

void BeastSocket::forget(const Item& item) {
  if (item.message.data) bytes_of(item) -= item.message.data->size();
}

Socket::Sent BeastSocket::send(Message message, std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  const size_t bytes = message.data->size();
  const bool fits = changed_.wait_for(
      lock, patience, [&] { return closing_ || closed_ || sent_bytes_ == 0 || sent_bytes_ + bytes <= most_bytes_; });
  if (closing_ || closed_) return Sent::kClosed;
  if (!fits) return Sent::kTooSlow;
  enqueue({std::move(message), {}});
  return Sent::kQueued;
}

bool BeastSocket::post(Message message) {
  std::unique_lock lock(mutex_);
  if (closing_ || closed_) return false;
  if (posted_bytes_ + message.data->size() <= kMostPostedBytes) {
    enqueue({std::move(message), {}, true});
    return true;
  }
  lock.unlock();
  drop(1008, "the client does not read");
  return false;
}

void BeastSocket::close(int code, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (closing_ || closed_) return;
  closing_ = true;
  enqueue({{}, reason_of(code, reason)});
  changed_.notify_all();
  abort_after(kFlushTime);
}

// Whether or not the client has read what is queued, and answered.
void BeastSocket::abort_after(std::chrono::seconds time) {
  net::post(*io_, [self = shared_from_this(), time] {
    self->close_timer_.expires_after(time);
    self->close_timer_.async_wait([self](const error_code& cut) {
      if (!cut) self->abort();
    });
  });
}

void BeastSocket::drop(int code, const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (closed_) return;
  while (queue_.size() > 1) {  // the first is on its way
    forget(queue_.back());
    queue_.pop_back();
  }
  closing_ = true;
  enqueue({{}, reason_of(code, reason)});
  changed_.notify_all();
  abort_after(kCloseTime);
}

void BeastSocket::abort() {
  stream_.next_layer().close();
  close_timer_.cancel();
}

// An exception would leave the queue as it is for ever.
void BeastSocket::write_next() {
  try {
    begin_write();
  } catch (const std::exception&) {
    mark_closed();
    abort();
  }
}

void BeastSocket::begin_write() {
  std::unique_lock lock(mutex_);
  if (closed_ || queue_.empty()) {
    writing_ = false;
    return;
  }
  const Item item = queue_.front();
  lock.unlock();
  if (item.close) {
    goodbye_ = item.close;
    stop_reading();
    return;
  }
  stream_.text(item.message.is_text);
  stream_.async_write(net::buffer(*item.message.data),
                      [self = shared_from_this(), item](const error_code& error, size_t) { self->written(error); });
}

// Beast's own close waits for its reader, and a reader that finds a wrong frame waits for the close: neither would ever
// end. So the reader is stopped and says goodbye itself. Again and again, since a message is read in several steps.
void BeastSocket::stop_reading() {
  if (!reading_) return;
  stream_.next_layer().cancel();
  stop_timer_.expires_after(kStopPause);
  stop_timer_.async_wait([self = shared_from_this()](const error_code& cut) {
    if (!cut) self->stop_reading();
  });
}

// What the client still sends is dropped, so that it can read the frame before the connection is reset.
net::awaitable<void> BeastSocket::say_goodbye() {
  abort_after(kCloseTime);
  error_code error;
  const std::string frame = close_frame(*goodbye_);
  co_await net::async_write(stream_.next_layer(), net::buffer(frame), into(error));
  co_await stream_.next_layer().shutdown_send();
  beast::tcp_stream& tcp = stream_.next_layer().next_layer();
  tcp.expires_never();
  char dropped[4096];
  while (!error) co_await tcp.async_read_some(net::buffer(dropped), into(error));
}

void BeastSocket::written(const error_code& error) {
  std::unique_lock lock(mutex_);
  if (queue_.empty()) return;  // closed meanwhile
  forget(queue_.front());
  queue_.pop_front();
  changed_.notify_all();
  lock.unlock();
  if (error) {
    mark_closed();
    abort();
  } else {
    write_next();
  }
}

void BeastSocket::mark_closed() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  queue_.clear();
  sent_bytes_ = posted_bytes_ = 0;
  changed_.notify_all();
}

net::awaitable<void> BeastSocket::read_all(SocketHandler& handler) {
  MessageBuffer buffer;
  for (;;) {
    error_code error;
    if (goodbye_) co_return;
    reading_ = true;
    co_await stream_.async_read(buffer, into(error));
    reading_ = false;
    if (error == websocket::error::buffer_overflow) co_return co_await refuse_message();
    if (error) co_return;
    const std::string_view bytes(static_cast<const char*>(buffer.data().data()), buffer.size());
    if (stream_.got_text()) {
      handler.on_text(bytes);
    } else {
      handler.on_binary(bytes);
    }
    buffer.clear();
  }
}

// The rest of the message is dropped until what is queued is sent, with the goodbye behind it.
net::awaitable<void> BeastSocket::refuse_message() {
  close(kTryLater, "out_of_memory");
  error_code error;
  char dropped[4096];
  reading_ = true;
  while (!error && !goodbye_) co_await stream_.next_layer().async_read_some(net::buffer(dropped), into(error));
  reading_ = false;
}

net::awaitable<void> BeastSocket::accept_and_read(const BeastRequest& request, const SocketSetup& setup) {
  beast::get_lowest_layer(stream_).expires_never();  // the WebSocket has timers of its own
  stream_.set_option(websocket::stream_base::timeout{kCloseTime, 30s, true});
  stream_.auto_fragment(false);  // a message is a frame
  stream_.read_message_max(setup.options.max_message_bytes);
  stream_.set_option(websocket::stream_base::decorator([protocol = setup.protocol](websocket::response_type& response) {
    response.erase(beast::http::field::server);
    if (!protocol.empty()) response.set(beast::http::field::sec_websocket_protocol, protocol);
  }));
  error_code error;
  beast::get_lowest_layer(stream_).socket().set_option(tcp::no_delay(true), error);
  co_await stream_.async_accept(request, into(error));
  if (error) co_return;
  was_opened_ = true;
  setup.handler->on_open(shared_from_this());
  co_await read_all(*setup.handler);
}

// Also where an exception in the midst of an operation ended the coroutine, but not where the server itself ends: then
// nobody is left to be told.
void BeastSocket::end(SocketHandler& handler) noexcept {
  if (io_->stopped()) return;
  try {
    reading_ = false;
    mark_closed();
    abort();
    handler.on_closed();
  } catch (...) {  // no memory even for that
  }
}

net::awaitable<bool> BeastSocket::run(BeastRequest request, SocketSetup setup) {
  const auto tell = [this](SocketHandler* handler) { end(*handler); };
  const std::unique_ptr<SocketHandler, decltype(tell)> at_end(setup.handler.get(), tell);
  try {
    setup.enter(weak_from_this());
    co_await accept_and_read(request, setup);
    if (goodbye_) co_await say_goodbye();
  } catch (const std::exception&) {  // no memory for a message: this connection ends
  }
  co_return was_opened_;
}

}  // namespace

net::awaitable<bool> serve_socket(std::shared_ptr<net::io_context> io, ClientStream stream, BeastRequest request,
                                  SocketSetup setup) {
  const auto socket = std::make_shared<BeastSocket>(std::move(io), std::move(stream), setup.options.send_queue_bytes);
  co_return co_await socket->run(std::move(request), std::move(setup));
}

}  // namespace liveavatar::http
