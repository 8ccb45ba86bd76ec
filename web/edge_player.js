// Plays fragmented MP4 as it arrives, by Media Source Extensions, near its newest frame.
//
// A block of 12 frames comes at once, so what lies ahead falls and rises by 0.48 s. The least of it within a while is
// the reserve: what is left when the next block comes. The rate of playback holds the reserve near its target.
const kWindowMs = 1500, kLeastTarget = 0.12, kMostTarget = 0.6;  // seconds
const kStallGrowth = 0.1, kForgetPerMs = 3e-6;  // seconds: of the target by a stop; it is forgotten after half a minute
const kSeekExcess = 0.7;     // seconds of reserve that is not wanted: after a pause; less goes by the rate
const kKeptSeconds = 10;     // of the past
const kFastest = 1.05, kSlowest = 0.97;
const kFadeSteps = 4, kFadeMs = 40;

const SourceClass = () => window.ManagedMediaSource || window.MediaSource;

export class EdgePlayer {
  static missing(mime = 'video/mp4; codecs="avc1.42c01f,opus"') {
    if (!SourceClass())
      return 'This browser cannot play live video: it has no Media Source Extensions. Sound files still become videos.';
    if (!SourceClass().isTypeSupported(mime))
      return 'This browser cannot play live video: it has no H.264 or no Opus. Sound files still become videos.';
    return '';
  }

  // onPicture(): the first one. onTrouble(message). onBlocked(): the browser wants a click before it plays sound.
  constructor(video, calls) {
    Object.assign(this, {video, calls, queue: [], ahead: [], reserve: 0, target: kLeastTarget, stalls: 0, seeks: 0});
    this.onWaiting = () => this.stalled();
    video.addEventListener('waiting', this.onWaiting);
    this.timer = setInterval(() => this.chase(), 100);
  }

  async open(mime) {
    const missing = EdgePlayer.missing(mime);
    if (missing) return this.calls.onTrouble(missing);
    const source = new (SourceClass())();
    if (window.ManagedMediaSource) this.video.disableRemotePlayback = true;  // Safari plays it only so
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
    await new Promise((resolve) => source.addEventListener('sourceopen', resolve, {once: true}));
    if (this.closed) return;
    this.buffer = source.addSourceBuffer(mime);
    this.buffer.addEventListener('updateend', () => this.updated());
    this.video.requestVideoFrameCallback?.(() => this.calls.onPicture());
    this.pump();
  }

  close() {
    this.closed = true;
    for (const timer of [this.timer, this.fade, this.hush]) clearInterval(timer);
    clearTimeout(this.beginning);
    this.video.volume = 1;
    this.video.removeEventListener('waiting', this.onWaiting);
    this.video.removeAttribute('src');
    this.video.load();
    if (this.url) URL.revokeObjectURL(this.url);
  }

  // Fades the sound out, and in.
  setHushed(isHushed) {
    clearInterval(this.fade);
    const step = (isHushed ? -1 : 1) / kFadeSteps;
    this.fade = setInterval(() => {
      this.video.volume = Math.min(1, Math.max(0, this.video.volume + step));
      const isDone = this.video.volume === (isHushed ? 0 : 1);
      if (isDone) clearInterval(this.fade);
    }, kFadeMs / kFadeSteps);
  }

  // What is hushed stays so until that time of the video is shown.
  hushUntil(time) {
    clearInterval(this.hush);
    this.hush = setInterval(() => {
      if (this.video.currentTime < time) return;
      clearInterval(this.hush);
      this.setHushed(false);
    }, 10);
  }

  append(bytes) {
    this.queue.push(bytes);
    this.pump();
  }

  updated() {
    this.chase();
    this.pump();
  }

  pump() {
    if (this.closed || !this.buffer || this.buffer.updating) return;
    const {buffered} = this.buffer;
    const old = this.video.currentTime - kKeptSeconds;
    if (buffered.length > 0 && buffered.start(0) < old - kKeptSeconds) return this.buffer.remove(0, old);
    if (this.queue.length === 0) return;
    try {
      this.buffer.appendBuffer(this.queue[0]);
      this.queue.shift();
    } catch (error) {
      this.appendFailed(error);
    }
  }

  appendFailed(error) {
    const isFull = error.name === 'QuotaExceededError' && this.video.currentTime > 1;
    if (isFull) return this.buffer.remove(0, this.video.currentTime - 0.5);
    this.calls.onTrouble(`The video cannot be played: ${this.video.error?.message || error.message}`);
  }

  // Seconds from the picture that is shown to the newest one.
  behind() {
    const {buffered, currentTime} = this.video;
    return buffered.length > 0 ? Math.max(0, buffered.end(buffered.length - 1) - currentTime) : 0;
  }

  // Without the rise and fall of each block.
  meanBehind() {
    const sum = this.ahead.reduce((all, {seconds}) => all + seconds, 0);
    return this.ahead.length > 0 ? sum / this.ahead.length : this.behind();
  }

  stalled() {
    if (!this.playing) return;
    ++this.stalls;
    this.target = Math.min(kMostTarget, this.target + kStallGrowth);
    this.ahead = [];
  }

  chase() {
    const {video} = this;
    if (this.closed || video.buffered.length === 0) return;
    if (!this.playing) return this.begin();
    const last = video.buffered.length - 1, start = video.buffered.start(last);
    if (video.currentTime < start) this.seek(start);
    this.measure();
    if (this.isKnown() && this.excess() > kSeekExcess) this.seek(video.currentTime + this.excess());
    else video.playbackRate = this.rate();
    if (video.paused && !this.blocked) this.play();
  }

  seek(time) {
    this.video.currentTime = time;
    this.ahead = [];
    ++this.seeks;
  }

  // The first picture is shown at once and held for a moment, so that there is a reserve from the start.
  begin() {
    if (this.beginning) return;
    const {buffered} = this.video;
    if (this.video.currentTime < buffered.start(0)) this.video.currentTime = buffered.start(0);
    this.beginning = setTimeout(() => {
      this.playing = true;
      this.play();
    }, this.target * 1000);
  }

  async play() {
    try {
      await this.video.play();
      this.blocked = false;
    } catch (error) {
      if (error.name !== 'NotAllowedError' || this.blocked) return;
      this.blocked = true;
      this.calls.onBlocked();
    }
  }

  measure() {
    const now = performance.now();
    this.ahead.push({at: now, seconds: this.behind()});
    while (this.ahead[0].at < now - kWindowMs) this.ahead.shift();
    this.reserve = Math.min(...this.ahead.map((one) => one.seconds));
    this.target = Math.max(kLeastTarget, this.target - kForgetPerMs * (now - (this.measured ?? now)));
    this.measured = now;
  }

  // Whether more than one block has come since the last seek or stop.
  isKnown() {
    return performance.now() - this.ahead[0].at > 0.6 * kWindowMs;
  }

  excess() {
    return this.reserve - this.target;
  }

  rate() {
    if (!this.isKnown()) return 1;
    const excess = this.excess();
    if (excess > 0.15) return kFastest;
    if (excess > 0.04) return 1.02;
    return excess < -0.06 ? kSlowest : 1;
  }
}
