#!/usr/bin/env python3
"""webrtc_browser_test.py PROGRAM ...: sessions over WebRTC in Chromium show a picture, also after the first one."""
import os
import sys
import unittest

from webrtc_chromium import Browser
from client import Server, wait_until

PROGRAM = None
# Plays until 20 pictures that are not black were shown, or a minute is over.
PLAY = """(async () => {
  const begin = performance.now(), peer = new RTCPeerConnection({bundlePolicy: 'max-bundle'});
  const video = document.createElement('video'), stream = new MediaStream();
  Object.assign(video, {autoplay: true, muted: true, srcObject: stream});
  document.body.append(video);
  peer.ontrack = event => stream.addTrack(event.track);
  const microphone = await navigator.mediaDevices.getUserMedia({audio: true});
  peer.addTransceiver('video', {direction: 'recvonly'});
  peer.addTransceiver(microphone.getAudioTracks()[0], {direction: 'sendrecv', streams: [microphone]});
  await peer.setLocalDescription(await peer.createOffer());
  while (peer.iceGatheringState !== 'complete') await new Promise(done => setTimeout(done, 10));
  const offered = performance.now();
  const answer = await fetch('/v1/live/whep?portrait=demo&size=64*64', {method: 'POST',
      headers: {'Content-Type': 'application/sdp'}, body: peer.localDescription.sdp});
  const sdp = await answer.text();
  if (answer.status !== 201) throw new Error(answer.status + sdp);
  await peer.setRemoteDescription({type: 'answer', sdp});
  const canvas = document.createElement('canvas'), context = canvas.getContext('2d', {willReadFrequently: true});
  const result = {sdp, pictures: 0, first_ms: null};
  const look = () => {
    canvas.width = video.videoWidth, canvas.height = video.videoHeight;
    context.drawImage(video, 0, 0);
    const pixel = context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data;
    if (pixel[0] + pixel[1] + pixel[2] > 90) {
      result.first_ms ??= Math.round(performance.now() - offered);
      ++result.pictures;
    }
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  while (result.pictures < 20 && performance.now() - begin < 60000) await new Promise(done => setTimeout(done, 50));
  const inbound = [...(await peer.getStats()).values()].filter(one => one.type === 'inbound-rtp');
  result.size = [video.videoWidth, video.videoHeight];
  result.decoded = inbound.find(one => one.kind === 'video')?.framesDecoded ?? 0;
  result.sound = inbound.find(one => one.kind === 'audio')?.packetsReceived ?? 0;
  peer.close();
  for (const track of microphone.getTracks()) track.stop();
  video.remove();
  const ended = await fetch(answer.headers.get('Location'), {method: 'DELETE'});
  result.deleted = ended.status;
  return result;
})()"""


class InChromium(unittest.TestCase):
    def test_three_sessions_of_one_server_each_show_a_picture(self):
        with Server(PROGRAM) as server, Browser() as browser:
            page = browser.open(f"http://127.0.0.1:{server.port}/")
            wait_until("the page is loaded", lambda: browser.run(
                page, "document.readyState === 'complete' && location.pathname === '/'"))
            for session in range(3):
                result = browser.run(page, PLAY)
                print(session, {key: value for key, value in result.items() if key != "sdp"})
                self.assertNotIn("FID 0 ", result["sdp"])
                self.assertIn("msid:", result["sdp"])
                self.assertEqual(result["size"], [64, 64])
                self.assertGreaterEqual(result["pictures"], 20)
                self.assertGreater(result["sound"], 0)
                self.assertEqual(result["deleted"], 200)
                wait_until("no session is left", lambda: server.json("/health")["sessions"] == 0)


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv[1])
    del sys.argv[1:]
    unittest.main(verbosity=2)
