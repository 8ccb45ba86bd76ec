// The gauges: latency from the live session, memory from /metrics.
import {request} from './api.js';
import {byId, bytesText, element, setMeter} from './dom.js';

const kBlockMs = 480;
const milliseconds = (seconds) => `${Math.round(seconds * 1000)} ms`;

// Lines of Prometheus' text format: [name, labels, value].
export function parseMetrics(text) {
  return text.split('\n').map((line) => /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line)).filter(Boolean)
    .map(([, name, labels = '', value]) => [name, labels, Number(value)]);
}

export class Gauges {
  constructor() {
    this.numbers = new Map();  // label: <dd>
  }

  number(label, text) {
    if (!this.numbers.has(label)) {
      const value = element('dd');
      byId('numbers').append(element('div', {}, element('dt', {textContent: label}), value));
      this.numbers.set(label, value);
    }
    this.numbers.get(label).textContent = text;
  }

  clearLive() {
    for (const id of ['g-behind', 'g-speech', 'g-load']) byId(id).textContent = '–';
    setMeter(byId('m-load'), 0, 'idle');
  }

  showPlayer(player) {
    byId('g-behind').textContent = milliseconds(player.meanBehind());
    this.number('Reserve', `${milliseconds(player.reserve)} of ${milliseconds(player.target)}`);
    this.number('Stops of playback', player.stalls);
    this.number('Skips', player.seeks);
  }

  showFirstPicture(seconds) {
    this.number('First picture after', milliseconds(seconds));
  }

  showSpeech(seconds) {
    byId('g-speech').textContent = milliseconds(seconds);
  }

  showStats(stats) {
    const busy = stats.sample_ms + stats.decode_ms + stats.encode_ms;
    const percent = `${Math.round((100 * busy) / kBlockMs)} %`;
    byId('g-load').textContent = percent;
    setMeter(byId('m-load'), busy / kBlockMs, `${percent} of real time`);
    this.number('A block of 480 ms takes', `${Math.round(busy)} ms`);
    this.number('Late', milliseconds(stats.late_s));
    this.number('Paused in all', `${stats.paused_s.toFixed(1)} s`);
    this.number('Gaps in speech', stats.gaps);
    this.number('Speech that waits', `${stats.queued_s.toFixed(1)} s`);
  }

  async refreshMemory() {
    const metrics = parseMetrics(await (await request('/metrics')).text());
    const sum = (wanted) => metrics.filter(([name]) => name === wanted).reduce((all, [, , value]) => all + value, 0);
    const resident = sum('process_resident_memory_bytes'), used = sum('liveavatar_memory_used_bytes');
    const budget = sum('liveavatar_memory_budget_bytes');
    byId('g-memory').textContent = budget > 0 ? `${bytesText(used)} of ${bytesText(budget)}` : bytesText(used);
    byId('m-memory').hidden = budget === 0;
    if (budget > 0) setMeter(byId('m-memory'), used / budget, 'of the budget');
    this.number('Memory of the program', bytesText(resident));
    const frames = metrics.find(([name, labels]) => name === 'liveavatar_frames_per_second' && labels.includes('live'));
    if (frames) this.number('Frames a second, all sessions', frames[2].toFixed(0));
  }
}
