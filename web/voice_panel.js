// The ways to speak: microphone, sound file, typed text.
import {getJson} from './api.js';
import {byId, note as show, say, setMeter} from './dom.js';
import {kRate} from './live_panel.js';
import {Microphone} from './microphone.js';
import {SpeechSender, decodeSound} from './speech.js';

const kSpeechPath = '/v1/audio/speech';  // of servers with text to speech
const kNoSpeech = 'This server has no text to speech. Talk, or choose a sound file.';

export class VoicePanel {
  // makeVideo(file): posts a job. onWay(way): it was chosen.
  constructor(live, {makeVideo, onWay}) {
    Object.assign(this, {live, makeVideo, onWay, sender: new SpeechSender(live, kRate)});
    for (const radio of document.getElementsByName('way')) radio.addEventListener('change', () => this.showWay());
    byId('mic').addEventListener('click', () => this.toggleMicrophone());
    byId('voice').addEventListener('change', () => this.takeFile(byId('voice').files[0]));
    byId('speak').addEventListener('click', () => this.sayFile());
    byId('make').addEventListener('click', () => this.makeVideo(this.file));
    byId('say').addEventListener('click', () => this.sayText());
    this.showWay();
  }

  showWay() {
    const chosen = document.querySelector('input[name="way"]:checked').value;
    for (const way of ['talk', 'file', 'type', 'converse']) byId(`way-${way}`).hidden = way !== chosen;
    this.onWay(chosen);
  }

  // Whether the server has text to speech is in its description.
  async findSpeech() {
    const {paths} = await getJson('/openapi.json');
    const has = kSpeechPath in paths;
    byId('type-fields').hidden = !has;
    say(byId('type-note'), has ? '' : kNoSpeech);
  }

  async toggleMicrophone() {
    if (this.microphone) return this.stopMicrophone();
    const microphone = (this.microphone = new Microphone());
    byId('mic').disabled = true;
    try {
      const runs = await microphone.start(kRate, (pcm, peak) => this.heard(pcm, peak), () => this.lostMicrophone());
      if (!runs) return;
      this.showMicrophone(true, 'The microphone is on.');
      await this.live.whenLive();
    } catch (error) {
      if (microphone === this.microphone) this.stopMicrophone(error.message, true);
    }
  }

  heard(pcm, peak) {
    setMeter(byId('mic-level'), Math.sqrt(peak));
    if (this.live.isLive()) this.live.sendSound(pcm);
  }

  lostMicrophone() {
    this.stopMicrophone('The microphone is gone. Connect it, then try again.', true);
  }

  stopMicrophone(reason = 'The microphone is off.', isBad = false) {
    if (!this.microphone) return;
    this.microphone.stop();
    this.microphone = null;
    this.live.sendEvent('end_speech');
    setMeter(byId('mic-level'), 0);
    this.showMicrophone(false, reason, isBad);
  }

  showMicrophone(isOn, text, isBad = false) {
    byId('mic').setAttribute('aria-pressed', isOn);
    byId('mic').textContent = isOn ? 'Turn the microphone off' : 'Turn the microphone on';
    byId('mic').disabled = false;
    show(byId('mic-note'), text, isBad);
  }

  takeFile(file) {
    if (!file) return;
    this.file = file;
    byId('voice-name').textContent = file.name;
    byId('speak').disabled = byId('make').disabled = false;
    show(byId('voice-note'), '');
  }

  takeDrop(file) {
    const radio = document.querySelector('input[name="way"][value="file"]');
    radio.checked = true;
    this.showWay();
    this.takeFile(file);
  }

  async sayFile() {
    const note = (text, isBad) => show(byId('voice-note'), text, isBad);
    try {
      await this.saySound(await this.file.arrayBuffer(), note);
    } catch (error) {
      note(error.message, true);
    }
  }

  async sayText() {
    const note = (text, isBad) => show(byId('type-note'), text, isBad), text = byId('text').value.trim();
    if (!text) return note('Type what the portrait says.');
    try {
      await this.makeWay('the text');
      this.live.interrupt();
      this.live.say(text);
      note('The portrait says it.');
    } catch (error) {
      note(error.message, true);
    }
  }

  // What the server says of a text.
  onWords({type, code, message}) {
    if (type === 'error' && (code === 'speech' || code === 'no_speech')) show(byId('type-note'), message, true);
  }

  // A session in which nobody else speaks.
  async makeWay(what) {
    if (this.microphone) this.stopMicrophone(`The microphone is off while the portrait says ${what}.`);
    await this.live.whenLive();
    if (this.sender.isSending()) this.live.interrupt();
    this.sender.cancel();
  }

  async saySound(bytes, note) {
    const pcm = await decodeSound(bytes, kRate);
    await this.makeWay('the sound');
    note(`Says ${(pcm.length / kRate).toFixed(1)} s of sound.`);
    this.sender.send(pcm, () => note('All of it is sent.'));
  }

  // What waits here is dropped too.
  interrupt() {
    if (this.sender.isSending()) show(byId('voice-note'), 'Interrupted.');
    this.sender.cancel();
  }
}
