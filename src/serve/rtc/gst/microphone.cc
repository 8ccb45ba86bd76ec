#include "serve/rtc/gst/microphone.h"

#include <gst/app/gstappsink.h>

#include <cstring>

#include "serve/rtc/gst/pipeline_text.h"

namespace liveavatar::rtc {
namespace {

bool is_sound(GstPad* pad) {
  const Owned<GstCaps> caps(gst_pad_get_current_caps(pad));
  if (!caps || gst_caps_get_size(caps.get()) == 0) return false;
  return g_strcmp0(gst_structure_get_string(gst_caps_get_structure(caps.get(), 0), "media"), "audio") == 0;
}

GstFlowReturn take_samples(GstAppSink* from, gpointer data) {
  const Owned<GstSample> sample(gst_app_sink_pull_sample(from));
  if (!sample) return GST_FLOW_EOS;
  GstBuffer* buffer = gst_sample_get_buffer(sample.get());
  GstMapInfo map;
  if (buffer == nullptr || gst_buffer_map(buffer, &map, GST_MAP_READ) == FALSE) return GST_FLOW_OK;
  const auto& sink = *static_cast<const SamplesSink*>(data);
  sink({reinterpret_cast<const int16_t*>(map.data), map.size / sizeof(int16_t)});
  gst_buffer_unmap(buffer, &map);
  return GST_FLOW_OK;
}

void read_samples(GstElement* bin, const SamplesSink& sink) {
  const Owned<GstElement> samples(gst_bin_get_by_name(GST_BIN(bin), "samples"));
  GstAppSinkCallbacks callbacks{};
  callbacks.new_sample = take_samples;
  gst_app_sink_set_callbacks(GST_APP_SINK(samples.get()), &callbacks, new SamplesSink(sink),
                             [](gpointer data) { delete static_cast<SamplesSink*>(data); });
}

}  // namespace

void take_pad(GstElement* peer, GstPad* pad, const SamplesSink& sink) {
  if (GST_PAD_DIRECTION(pad) != GST_PAD_SRC) return;
  const bool sound = is_sound(pad);
  const std::string text = sound ? microphone_text() : "fakesink sync=false async=false";
  GError* error = nullptr;
  GstElement* bin = gst_parse_bin_from_description(text.c_str(), TRUE, &error);
  const Owned<GError> why(error);
  const Owned<GstElement> pipeline(GST_ELEMENT(gst_object_get_parent(GST_OBJECT(peer))));
  if (bin == nullptr || !pipeline) return;  // it stays silent
  if (sound) read_samples(bin, sink);
  gst_bin_add(GST_BIN(pipeline.get()), bin);
  gst_element_sync_state_with_parent(bin);
  const Owned<GstPad> to(gst_element_get_static_pad(bin, "sink"));
  gst_pad_link(pad, to.get());
}

}  // namespace liveavatar::rtc
