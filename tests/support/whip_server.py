"""A WHIP server (RFC 9725) of aiortc and aiohttp. Where they are missing, the test that imports this is skipped."""
import asyncio
import re
import sys
import threading
import time

try:
    import numpy as np
    from aiohttp import web
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
except ImportError as missing:
    print(f"skipped: {missing}; see tests/serve/requirements.txt")
    sys.exit(77)

from receivers import KEY, PATIENCE_S, wait_until

LOUD = 3000


class Call:
    """What came over one connection; of the threads, only the server's changes it."""

    def __init__(self):
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures, self.sound = [], []  # (seconds, RTP time, brightness or loudest sample)
        self.offer = ""
        self.size = None
        self.is_deleted = False
        self.tasks = []
        self.connection.on("track", lambda track: self.tasks.append(asyncio.ensure_future(self._take(track))))

    async def _take(self, track):
        while True:
            try:
                frame = await track.recv()
            except Exception:
                return
            if track.kind == "video":
                self.size = (frame.width, frame.height)
                plane = frame.planes[0]
                luma = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:frame.height, :frame.width]
                self.pictures.append((time.monotonic(), frame.pts, float(luma.mean())))
            else:
                loudest = int(np.abs(frame.to_ndarray().astype(np.int32)).max())
                self.sound.append((time.monotonic(), frame.pts, loudest))

    def shown(self):
        """But the black one, which is sent before the first."""
        return [picture for picture in self.pictures if picture[2] > 30]

    def rate(self):
        """Frames a second of the call's time."""
        times = [picture[1] / 90000 for picture in self.shown()]
        return (len(times) - 1) / (times[-1] - times[0])

    def loud_s(self):
        return sum(piece[2] > LOUD for piece in self.sound) * 0.02


class WhipServer:
    """At url, with the token where there is one. codec: the only one it takes. behave: answers an offer as it should
    not."""

    def __init__(self, token=None, codec=None, behave=None):
        self.token, self.codec, self.behave = token, codec, behave
        self.calls, self.requests = [], []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        self._run(self._begin())
        return self

    def __exit__(self, *_):
        self._run(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE_S)
        self.loop.close()

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    async def _begin(self):
        app = web.Application()
        app.router.add_post("/live/" + KEY, self._post)
        app.router.add_delete("/calls/{number}", self._delete)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]
        self.url = f"whip+http://127.0.0.1:{self.port}/live/{KEY}"

    async def _end(self):
        for call in self.calls:
            await call.connection.close()
            for task in call.tasks:
                task.cancel()
        await asyncio.sleep(0)  # so that they end
        await self.runner.cleanup()

    def _is_welcome(self, request):
        self.requests.append((request.method, dict(request.headers)))
        return self.token is None or request.headers.get("Authorization") == "Bearer " + self.token

    async def _post(self, request):
        if not self._is_welcome(request):
            return web.Response(status=401)
        if request.content_type != "application/sdp":
            return web.Response(status=415)
        call = Call()
        call.offer = await request.text()
        if self.behave:
            return self.behave(call)
        self.calls.append(call)
        # The server waits for DTLS, as RFC 9725 recommends: aiortc calling has no cipher for GStreamer's certificate.
        offer = call.offer.replace("a=setup:actpass", "a=setup:active")
        await call.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await call.connection.setLocalDescription(await call.connection.createAnswer())
        answer = call.connection.localDescription.sdp
        if self.codec and self.codec not in call.offer:
            answer = re.sub(r"m=video \d+ ", "m=video 0 ", answer)  # refused
        return web.Response(status=201, content_type="application/sdp", text=answer,
                            headers={"Location": f"../calls/{len(self.calls) - 1}"})

    async def _delete(self, request):
        if not self._is_welcome(request):
            return web.Response(status=401)
        call = self.calls[int(request.match_info["number"])]
        call.is_deleted = True
        await call.connection.close()
        return web.Response()

    def drop(self, call):
        """As a server that is started anew."""
        self._run(call.connection.close())

    def wait_for_call(self, number):
        wait_until(f"call {number} comes", lambda: len(self.calls) > number)
        return self.calls[number]
