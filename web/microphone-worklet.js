// Posts {pcm: s16 mono of 20 ms, peak: 0 to 1} at the wanted rate.
import {Resampler, toInt16} from './resampler.js';

class MicrophoneProcessor extends AudioWorkletProcessor {
  constructor(options) {
    super();
    const {rate} = options.processorOptions;
    this.resampler = new Resampler(sampleRate, rate);
    this.samples = rate / 50;
    this.clear();
  }

  clear() {
    this.pcm = new Int16Array(this.samples);
    this.count = 0;
    this.peak = 0;
  }

  process(inputs) {
    const sound = inputs[0][0];
    if (sound) for (const value of this.resampler.push(sound)) this.take(value);
    return true;
  }

  take(value) {
    this.peak = Math.max(this.peak, Math.abs(value));
    this.pcm[this.count++] = toInt16(value);
    if (this.count < this.samples) return;
    this.port.postMessage({pcm: this.pcm.buffer, peak: this.peak}, [this.pcm.buffer]);
    this.clear();
  }
}

registerProcessor('microphone', MicrophoneProcessor);
