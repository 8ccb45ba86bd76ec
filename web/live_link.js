// The live socket: opens a session, finds out why one is refused, and opens another where the connection is lost.
import {apiKey, health, keyWorks, socketProtocols} from './api.js';

const kPingMs = 20000, kSilenceMs = 15000;
const kFirstWaitMs = 500, kLongestWaitMs = 8000;
// Answers of the server for which another try helps.
const kPassing = new Set(['draining', 'loading', 'unreachable']);

// Why a session was refused. A browser does not show the answer to a WebSocket's request, so /health is asked.
async function refusal() {
  const now = await health();
  if (!now) return {code: 'unreachable', message: 'The server does not answer.'};
  if (now.status === 'loading') return {code: 'loading', message: 'The server loads its model.'};
  if (now.status !== 'ok') return {code: 'draining', message: 'The server ends and takes no more work.'};
  if (!(await keyWorks())) return {code: 'key', message: 'The API key is missing or wrong. Type the right one above.'};
  if (now.job_runs)
    return {code: 'job', message: 'The server makes a video now, and has no time for a live session. Try again when ' +
      'the video is complete.'};
  if (now.sessions >= now.max_sessions)
    return {code: 'sessions', message: now.max_sessions === 0 ? 'This server takes no live sessions.' :
      `Every live session of the server is taken (${now.sessions} of ${now.max_sessions}). Try again later.`};
  return {code: 'unreachable', message: 'The connection could not be made.'};
}

// Why an open session ended: what the server said last, or how it closed.
function closing(event, reason) {
  const isLost = event.code === 1005 || event.code === 1006 || event.code === 1001;
  if (reason && (reason.code === 'draining' || !isLost)) return reason;
  if (isLost) return {code: 'unreachable', message: 'The connection was lost.'};
  return {code: 'closed', message: `The server ended the session${event.reason ? `: ${event.reason}` : ''}.`};
}

// The server's messages are lines of a log; here they are sentences.
function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? '' : '.');
}

// States: idle, connecting, live, lost (it tries again), ended.
export class LiveLink {
  // onState(state, {code, message, seconds}), onEvent(event), onMedia(bytes).
  constructor(calls) {
    this.calls = calls;
    this.state = 'idle';
  }

  // settings: the event start, without its type.
  start(settings) {
    this.settings = settings;
    this.tries = 0;
    this.wasLive = false;
    this.connect();
  }

  isLive() {
    return this.state === 'live';
  }

  sendSound(samples) {
    if (this.isLive()) this.socket.send(samples);
  }

  sendEvent(type, fields = {}) {
    if (this.isLive()) this.socket.send(JSON.stringify({type, ...fields}));
  }

  stop() {
    this.sendEvent('stop');
    this.leave();
    this.enter('idle', {});
  }

  enter(state, detail) {
    this.state = state;
    this.calls.onState(state, detail);
  }

  // What the old socket says from now on is not heard.
  leave() {
    clearTimeout(this.timer);
    clearInterval(this.watch);
    const socket = this.socket;
    this.socket = null;
    if (socket) socket.close();
  }

  connect() {
    this.leave();
    this.reason = null;
    this.opened = false;
    if (!this.wasLive) this.enter('connecting', {});
    const url = `${location.protocol === 'https:' ? 'wss:' : 'ws:'}//${location.host}/v1/live`;
    try {
      this.socket = new WebSocket(url, socketProtocols());
    } catch {
      const message = apiKey() ? 'The API key has characters that a browser cannot send to a live session.' :
        'This browser refuses to open a live session.';
      return this.end({code: 'key', message});
    }
    this.socket.binaryType = 'arraybuffer';
    this.listen(this.socket);
  }

  listen(socket) {
    const isCurrent = () => socket === this.socket;
    socket.onopen = () => isCurrent() && this.onOpen();
    socket.onmessage = (message) => isCurrent() && this.onMessage(message.data);
    socket.onclose = (event) => isCurrent() && this.onClose(event);
  }

  onOpen() {
    this.opened = true;
    this.heard = performance.now();
    this.socket.send(JSON.stringify({type: 'start', ...this.settings}));
    this.pinged = performance.now();
    this.watch = setInterval(() => this.checkTime(), 1000);
  }

  // Pings keep the session; a connection that is silent is dead, also where nothing says so.
  checkTime() {
    const now = performance.now();
    if (this.isLive() && now - this.heard > kSilenceMs) return this.onClose({code: 1006});
    if (now - this.pinged < kPingMs) return;
    this.pinged = now;
    this.socket.send(JSON.stringify({type: 'ping'}));
  }

  onMessage(data) {
    this.heard = performance.now();
    if (typeof data !== 'string') return this.calls.onMedia(data);
    const event = JSON.parse(data);
    if (event.type === 'started') {
      this.tries = 0;
      this.wasLive = true;
      this.enter('live', {});
    }
    if (event.type === 'error') this.reason = event;
    this.calls.onEvent(event);
  }

  async onClose(event) {
    const {opened, reason} = this;
    this.leave();
    const mark = (this.mark = {});
    const found = opened ? closing(event, reason) : await refusal();
    const why = {...found, message: sentence(found.message)};
    const isStale = mark !== this.mark || this.socket || this.state === 'idle';
    if (isStale) return;
    if (kPassing.has(why.code)) return this.tryAgain(why);
    this.end(why);
  }

  tryAgain(why) {
    const wait = Math.min(kLongestWaitMs, kFirstWaitMs * 2 ** this.tries) * (0.8 + 0.4 * Math.random());
    ++this.tries;
    this.enter('lost', {...why, seconds: wait / 1000});
    this.timer = setTimeout(() => this.connect(), wait);
  }

  end(why) {
    this.leave();
    this.enter('ended', why);
  }
}
