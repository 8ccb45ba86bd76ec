// Puts the page together.
import {getJson, health, keyWorks, request, setApiKey, whenKeyIsRefused} from './api.js';
import {byId, note as show, say, takeDrops} from './dom.js';
import {Gallery} from './gallery.js';
import {Gauges} from './gauges.js';
import {LivePanel} from './live_panel.js';
import {Portraits} from './portraits.js';
import {TalkPanel} from './talk_panel.js';
import {VoicePanel} from './voice_panel.js';

const kAskMs = 5000, kAskSoonMs = 1500;
const poster = byId('poster');
const gauges = new Gauges(), gallery = new Gallery(), portraits = new Portraits(showPoster);
const live = new LivePanel({settings: liveSettings, gauges, onLive: askServer, onEnded: sessionEnded, onWords});
const talk = new TalkPanel(live, () => voice.stopMicrophone());
const voice = new VoicePanel(live, {makeVideo, onWay: (way) => way === 'converse' || talk.end()});
let serverState = '', asking;

function showPoster({source}) {
  Object.assign(poster, {src: source, hidden: false, alt: 'The chosen portrait'});
  byId('screen-hint').hidden = true;
  showReady();
}

function showReady() {
  live.setReady(serverState === 'ok' && portraits.chosen !== null);
}

function fields() {
  if (!portraits.chosen) throw new Error('Choose a portrait first.');
  if (!byId('size').checkValidity()) throw new Error('The size is written as 704*384.');
  return {prompt: byId('prompt').value.trim(), size: byId('size').value.trim()};
}

async function liveSettings() {
  return {...fields(), portrait: await portraits.forLive(), microphone: Boolean(voice.microphone), ...talk.settings()};
}

async function makeVideo(file) {
  const note = (text, isBad) => show(byId('voice-note'), text, isBad);
  try {
    const form = new FormData();
    for (const [name, value] of Object.entries(fields())) if (value) form.append(name, value);
    portraits.addTo(form);
    form.append('audio', file);
    note('Sending…');
    gallery.add(await (await request('/v1/videos', {method: 'POST', body: form})).json());
    note(live.isOpen() ? 'The video is made when no live session runs.' : 'The video is in the list below.');
  } catch (error) {
    note(error.message, true);
  }
}

// lost: it is tried again, and then the microphone goes on.
function sessionEnded(isLost) {
  voice.interrupt();
  if (!isLost) voice.stopMicrophone();
  if (!isLost) talk.sessionEnded();
  askServer();
}

function onWords(event) {
  talk.onWords(event);
  voice.onWords(event);
}

function showServer(now) {
  const kinds = {ok: 'ok', loading: 'wait', draining: 'wait'};
  byId('server').dataset.kind = now ? kinds[now.status] || 'bad' : 'bad';
  say(byId('server-text'), serverText(now));
}

function serverText(now) {
  if (!now) return 'The server does not answer';
  if (now.status === 'loading') return 'The server loads its model…';
  if (now.status === 'draining') return 'The server ends';
  if (now.status !== 'ok') return `The server says ${now.status}`;
  if (now.job_runs) return 'Ready · makes a video';
  return `Ready · ${now.sessions} of ${now.max_sessions} live sessions`;
}

// After the server became ready, again too: it may be another one by now.
async function meetServer() {
  const [model] = (await getJson('/v1/models')).data;
  byId('model').textContent = model.id;
  talk.offer(Boolean(model.capabilities?.converse));
  portraits.forgetSources();
  await Promise.all([portraits.refresh(), voice.findSpeech()]);
}

async function askServer() {
  clearTimeout(asking);
  const now = await health();
  const state = now ? now.status : '';
  showServer(now);
  try {
    if (state === 'ok' && serverState !== 'ok') await meetServer();
    serverState = state;
    if (state === 'ok' && !document.hidden) await Promise.all([gallery.refresh(), gauges.refreshMemory()]);
  } catch (error) {
    if (error.status !== 401) serverState = '';
  }
  showReady();
  const soon = serverState !== 'ok' || gallery.isBusy();
  clearTimeout(asking);
  asking = setTimeout(askServer, soon ? kAskSoonMs : kAskMs);
}

function askForKey() {
  if (!byId('key-form').hidden) return;
  byId('key-form').hidden = false;
  byId('key').focus();
}

async function useKey(event) {
  event.preventDefault();
  setApiKey(byId('key').value);
  const works = await keyWorks();
  byId('key-form').hidden = works;
  say(byId('key-hint'), works ? '' : 'The server refuses this key. Check it and try again.');
  live.problem('');
  if (works) askServer();
}

// The video has the portrait's shape, nearly.
poster.addEventListener('load', () =>
  byId('screen').style.setProperty('--ratio', poster.naturalWidth / poster.naturalHeight));
whenKeyIsRefused(askForKey);
byId('key-form').addEventListener('submit', useKey);
byId('interrupt').addEventListener('click', () => voice.interrupt());
takeDrops((file) => (file.type.startsWith('image/') ? portraits.takeFile(file) : voice.takeDrop(file)));
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && live.isLive() && !byId('player').open) byId('interrupt').click();
});
document.addEventListener('visibilitychange', () => document.hidden || askServer());
askServer();
