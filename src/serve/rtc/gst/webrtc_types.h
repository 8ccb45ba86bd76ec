// What we use of gst/webrtc/webrtc.h, declared here so that its package is not needed to build. GStreamer keeps this
// binary interface for all of 1.x.
#pragma once

#include <gst/gst.h>
#include <gst/sdp/gstsdpmessage.h>

extern "C" {
enum GstWebRTCSDPType { GST_WEBRTC_SDP_TYPE_OFFER = 1, GST_WEBRTC_SDP_TYPE_PRANSWER, GST_WEBRTC_SDP_TYPE_ANSWER };
struct GstWebRTCSessionDescription {
  GstWebRTCSDPType type;
  GstSDPMessage* sdp;
};
GType gst_webrtc_session_description_get_type(void);
GstWebRTCSessionDescription* gst_webrtc_session_description_new(GstWebRTCSDPType type, GstSDPMessage* sdp);
void gst_webrtc_session_description_free(GstWebRTCSessionDescription* description);
}

namespace liveavatar::rtc {

// Of webrtcbin's properties "connection-state" and "ice-gathering-state".
enum class ConnectionState { kNew, kConnecting, kConnected, kDisconnected, kFailed, kClosed };
constexpr int kGatheringComplete = 2;

}  // namespace liveavatar::rtc
