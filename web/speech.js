// Sound files: decoded in the browser, and sent to a session piece by piece.
import {toInt16} from './resampler.js';

const kPieceSeconds = 0.5, kMostAheadSeconds = 5, kStepMs = 100;

// s16 mono at that rate.
export async function decodeSound(bytes, rate) {
  const context = new OfflineAudioContext(1, 1, rate);
  let sound;
  try {
    sound = await context.decodeAudioData(bytes);
  } catch {
    throw new Error('The browser cannot decode this file. Try WAV, MP3, FLAC, Ogg or M4A, or make a video of it.');
  }
  const pcm = new Int16Array(sound.length);
  const channels = Array.from({length: sound.numberOfChannels}, (_, c) => sound.getChannelData(c));
  for (let i = 0; i < pcm.length; ++i)
    pcm[i] = toInt16(channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length);
  return pcm;
}

// Sends a speech somewhat faster than it plays: the session's queue is short, and an interruption drops little.
export class SpeechSender {
  constructor(link, rate) {
    Object.assign(this, {link, rate});
  }

  isSending() {
    return this.timer !== undefined;
  }

  // onDone(): all of it was sent.
  send(pcm, onDone) {
    this.cancel();
    Object.assign(this, {pcm, onDone, sent: 0, begun: performance.now()});
    this.timer = setInterval(() => this.step(), kStepMs);
    this.step();
  }

  cancel() {
    clearInterval(this.timer);
    this.timer = undefined;
  }

  step() {
    const due = ((performance.now() - this.begun) / 1000 + kMostAheadSeconds) * this.rate;
    const piece = kPieceSeconds * this.rate;
    while (this.sent < this.pcm.length && this.sent + piece <= due) {
      this.link.sendSound(this.pcm.subarray(this.sent, this.sent + piece));
      this.sent += piece;
    }
    if (this.sent < this.pcm.length) return;
    this.cancel();
    this.link.sendEvent('end_speech');
    this.onDone();
  }
}
