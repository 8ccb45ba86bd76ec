// The live session on the page: its buttons, its states in words, the video.
import {byId, say} from './dom.js';
import {EdgePlayer} from './edge_player.js';
import {LiveLink} from './live_link.js';

export const kRate = 24000;  // Hz, of the sound that is sent

export class LivePanel {
  // settings(): a promise of the event start. onLive(). onEnded(isLost). onWords(event): what is said and heard.
  constructor({settings, gauges, onLive, onEnded, onWords}) {
    Object.assign(this, {settings, gauges, onLive, onEnded, onWords, waiting: []});
    this.link = new LiveLink({
      onState: (state, detail) => this.onState(state, detail),
      onEvent: (event) => this.onEvent(event),
      onMedia: (bytes) => this.player?.append(bytes),
    });
    byId('start').addEventListener('click', () => this.start());
    byId('interrupt').addEventListener('click', () => this.interrupt());
    byId('stop').addEventListener('click', () => this.stop());
    byId('mute').addEventListener('click', () => this.setMuted(!byId('video').muted));
    setInterval(() => this.player && this.gauges.showPlayer(this.player), 500);
    this.missing = EdgePlayer.missing();
    if (this.missing) this.problem(this.missing);
    this.show();
  }

  status(text) {
    say(byId('status'), text);
  }

  problem(text) {
    say(byId('problem'), text);
  }

  isLive() {
    return this.link.isLive();
  }

  // Resolves when the session is live; rejects where it ends before.
  whenLive() {
    if (this.isLive()) return Promise.resolve();
    if (this.missing) return Promise.reject(new Error(this.missing));
    const waits = new Promise((resolve, reject) => this.waiting.push({resolve, reject}));
    if (!this.isOpen()) this.start();
    return waits;
  }

  isOpen() {
    return this.preparing || ['connecting', 'live', 'lost'].includes(this.link.state);
  }

  async start() {
    if (this.isOpen() || this.missing) return;
    this.problem('');
    this.begun = performance.now();
    this.preparing = true;
    try {
      const settings = await this.settings();
      this.preparing = false;
      this.link.start({...settings, sample_rate: kRate, format: 'mp4'});
    } catch (error) {
      this.preparing = false;
      this.onState('ended', {message: error.message});
    }
  }

  stop() {
    this.link.stop();
  }

  // What was sent already would speak on for a block: it is not heard.
  interrupt() {
    this.sendEvent('interrupt');
    if (this.speaks) this.player?.setHushed(true);
  }

  // The first sound of a speech counts: it is the one whose picture is waited for.
  sendSound(pcm) {
    if (!this.inSpeech) this.pushed = performance.now();
    this.inSpeech = true;
    this.link.sendSound(pcm);
  }

  // A text that the server speaks.
  say(text) {
    this.awaitSpeech();
    this.sendEvent('say', {text});
  }

  // From now on the picture of a speech is waited for.
  awaitSpeech() {
    this.pushed = performance.now();
  }

  // Other than sound.
  sendEvent(type, fields) {
    this.inSpeech = false;
    this.link.sendEvent(type, fields);
  }

  setMuted(isMuted) {
    byId('video').muted = isMuted;
    byId('mute').setAttribute('aria-pressed', isMuted);
    byId('mute').textContent = isMuted ? 'Unmute' : 'Mute';
  }

  onState(state, {message, seconds}) {
    if (state === 'connecting') this.status('Preparing the portrait…');
    if (state === 'live') this.status('Live. The portrait listens.');
    if (state === 'lost') this.status(`${message} Trying again in ${Math.max(1, Math.round(seconds))} s.`);
    if (state === 'idle') this.status('Stopped.');
    if (state === 'ended') {
      this.status('');
      this.problem(message);
    }
    if (state === 'live') this.finishWaiting('resolve');
    if (state !== 'live') this.closePlayer();
    if (state === 'ended' || state === 'idle') this.finishWaiting('reject', new Error(message || 'Stopped.'));
    if (state === 'live') this.onLive();
    this.show();
    if (state === 'lost' || state === 'ended' || state === 'idle') this.onEnded(state === 'lost');
  }

  finishWaiting(how, value) {
    for (const one of this.waiting.splice(0)) one[how](value);
  }

  onEvent(event) {
    if (event.type === 'started') this.openPlayer(event);
    if (event.type === 'stats') this.gauges.showStats(event);
    if (event.type === 'playback_started') this.speechBegins(event);
    if (event.type === 'playback_finished') this.speechEnds(event);
    this.onWords(event);
    if (event.type === 'error' && event.code === 'queue_full') this.problem(event.message);
  }

  // The event comes before its picture is shown.
  speechBegins({time_s: time}) {
    const {pushed, player} = this;
    this.speaks = true;
    this.status('Live. The portrait speaks.');
    const timer = setInterval(() => {
      if (player !== this.player) return clearInterval(timer);
      if (byId('video').currentTime < time) return;
      clearInterval(timer);
      this.gauges.showSpeech((performance.now() - pushed) / 1000);
    }, 10);
  }

  // No time: none of it was in the video.
  speechEnds({interrupted, position_s: position, time_s: time}) {
    if (time !== undefined) {
      this.speaks = false;
      this.player?.hushUntil(time);
    }
    this.status(interrupted ? `Interrupted after ${position.toFixed(1)} s of speech.` : 'Live. The portrait listens.');
  }

  openPlayer({mime}) {
    this.closePlayer();
    this.player = new EdgePlayer(byId('video'), {
      onPicture: () => this.showPicture(),
      onTrouble: (message) => this.fail(message),
      onBlocked: () => this.blocked(),
    });
    this.player.open(mime);
  }

  closePlayer() {
    this.player?.close();
    this.player = null;
    this.inSpeech = this.speaks = false;
    byId('video').hidden = true;
    this.gauges.clearLive();
  }

  showPicture() {
    byId('video').hidden = false;
    if (this.begun) this.gauges.showFirstPicture((performance.now() - this.begun) / 1000);
    this.begun = null;
  }

  fail(message) {
    this.link.stop();
    this.problem(message);
  }

  // A browser plays sound after a click only; without it the picture plays.
  blocked() {
    this.setMuted(true);
    this.player.blocked = false;
    this.status('Live, without sound: press Unmute to hear it.');
  }

  setReady(isReady) {
    this.isReady = isReady;
    this.show();
  }

  show() {
    const {state} = this.link, isOpen = this.isOpen();
    document.documentElement.dataset.live = state;
    const isNew = this.isReady && state === 'idle' && !isOpen && byId('status').textContent === '';
    if (isNew) this.status('Ready. Press Start live, or turn the microphone on.');
    byId('start').disabled = isOpen || !this.isReady || Boolean(this.missing);
    byId('start').textContent = state === 'ended' ? 'Try again' : 'Start live';
    byId('interrupt').disabled = byId('mute').disabled = state !== 'live';
    byId('stop').disabled = !isOpen;
    byId('live-mark').hidden = state !== 'live';
    byId('screen').toggleAttribute('data-busy', state === 'connecting' || state === 'lost');
  }
}
