// A conversation: the visitor speaks or writes, the portrait answers, and both are shown as text.
import {byId, element, note as show, setMeter} from './dom.js';
import {kRate} from './live_panel.js';
import {Microphone} from './microphone.js';

const kMostShown = 100;  // turns
const kErrors = new Set(['speech', 'chat', 'transcription']);

export class TalkPanel {
  // onBegin(): other ways to speak end.
  constructor(live, onBegin) {
    Object.assign(this, {live, onBegin, isOn: false});
    byId('converse').addEventListener('click', () => (this.isOn ? this.end() : this.begin(true)));
    byId('ask').addEventListener('submit', (event) => this.ask(event));
  }

  // Whether the server has chat and transcription.
  offer(has) {
    byId('converse-tab').hidden = !has;
  }

  // Of the event start.
  settings() {
    return this.isOn ? {converse: true, microphone: false} : {};
  }

  note(text, isBad) {
    show(byId('converse-note'), text, isBad);
  }

  // Whether there is a conversation now.
  async begin(withMicrophone) {
    if (this.isOn) return true;
    if (this.live.isOpen()) this.live.stop();  // it is no conversation
    this.onBegin();
    this.isOn = true;
    this.show();
    try {
      if (withMicrophone) await this.startMicrophone();
      await this.live.whenLive();
      if (this.microphone) this.note('The portrait hears you.');
    } catch (error) {
      this.note(error.message, true);
      this.end(false);
    }
    return this.isOn;
  }

  // Without one the visitor writes.
  async startMicrophone() {
    const microphone = (this.microphone = new Microphone());
    try {
      await microphone.start(kRate, (pcm, peak) => this.heard(pcm, peak), () => this.lostMicrophone());
    } catch (error) {
      this.microphone = null;
      this.note(`${error.message} You can write.`, true);
    }
  }

  heard(pcm, peak) {
    setMeter(byId('converse-level'), Math.sqrt(peak));
    this.live.link.sendSound(pcm);
  }

  lostMicrophone() {
    this.stopMicrophone();
    this.note('The microphone is gone. You can write, or connect it and begin again.', true);
  }

  // What it heard last is over, also where that was in the middle of a word.
  stopMicrophone() {
    if (this.microphone) this.live.sendEvent('end_speech');
    this.microphone?.stop();
    this.microphone = null;
    setMeter(byId('converse-level'), 0);
  }

  end(says = true) {
    if (!this.isOn) return;
    this.isOn = false;
    this.stopMicrophone();
    if (this.live.isOpen()) this.live.stop();
    if (says) this.note('The conversation has ended.');
    this.show();
  }

  // By the server, or by the button Stop.
  sessionEnded() {
    if (this.isOn && !this.live.isOpen()) this.end();
  }

  show() {
    byId('converse').setAttribute('aria-pressed', this.isOn);
    byId('converse').textContent = this.isOn ? 'End the conversation' : 'Talk with the portrait';
  }

  async ask(event) {
    event.preventDefault();
    const text = byId('ask-text').value.trim();
    if (!text || !(await this.begin(false))) return;
    byId('ask-text').value = '';
    this.live.awaitSpeech();
    this.live.sendEvent('ask', {text});
  }

  onWords(event) {
    if (!this.isOn) return;
    const {type, text, turn} = event;
    if (type === 'hearing') byId('converse').classList.toggle('hears', event.speaks);
    if (type === 'hearing' && !event.speaks) this.live.awaitSpeech();
    if (type === 'heard' && text) this.add('you', text);
    if (type === 'heard' && !text) this.note('That was not understood.');
    if (type === 'answer') this.answer(turn).textContent += text;
    if (type === 'answered') this.finish(event);
    if (type === 'error' && kErrors.has(event.code)) this.note(event.message, true);
  }

  add(who, text) {
    const words = element('span', {textContent: text});
    const name = element('b', {textContent: who === 'you' ? 'You' : 'Portrait'});
    const item = element('li', {className: who}, name, words);
    const list = byId('words');
    list.append(item);
    while (list.children.length > kMostShown) list.firstChild.remove();
    list.scrollTop = list.scrollHeight;
    return words;
  }

  answer(turn) {
    if (this.turn !== turn || !this.words) Object.assign(this, {turn, words: this.add('portrait', '')});
    byId('words').scrollTop = byId('words').scrollHeight;
    return this.words;
  }

  // Of an answer that was cut off, what was heard.
  finish({turn, text, interrupted}) {
    const words = this.turn === turn && this.words;
    this.words = null;
    if (words && !text) words.parentElement.remove();
    else if (words) words.textContent = interrupted ? `${text} –` : text;
  }
}
