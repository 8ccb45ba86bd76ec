// GStreamer's objects with owners.
#pragma once

#include <memory>
#include <string>

#include "serve/rtc/gst/webrtc_types.h"

namespace liveavatar::rtc {

struct Release {
  void operator()(GstElement* element) const { gst_object_unref(element); }
  void operator()(GstPad* pad) const { gst_object_unref(pad); }
  void operator()(GstBus* bus) const { gst_object_unref(bus); }
  void operator()(GObject* object) const { g_object_unref(object); }
  void operator()(GstCaps* caps) const { gst_caps_unref(caps); }
  void operator()(GstBuffer* buffer) const { gst_buffer_unref(buffer); }
  void operator()(GstSample* sample) const { gst_sample_unref(sample); }
  void operator()(GstPromise* promise) const { gst_promise_unref(promise); }
  void operator()(GstSDPMessage* message) const { gst_sdp_message_free(message); }
  void operator()(GstWebRTCSessionDescription* one) const { gst_webrtc_session_description_free(one); }
  void operator()(GError* error) const { g_error_free(error); }
};
template <typename T>
using Owned = std::unique_ptr<T, Release>;

// Takes the text.
inline std::string text_of(gchar* text) {
  const std::string copy = text != nullptr ? text : "";
  g_free(text);
  return copy;
}

// A callback of a signal with a copy of `context`, which lives as long as the connection.
template <typename Context, typename Function>
void connect(gpointer object, const char* signal, Function* function, const Context& context) {
  g_signal_connect_data(
      object, signal, reinterpret_cast<GCallback>(function), new Context(context),
      [](gpointer data, GClosure*) { delete static_cast<Context*>(data); }, GConnectFlags(0));
}

}  // namespace liveavatar::rtc
