// Sound at one rate from sound at another, sample after sample; the pieces may be cut anywhere.
//
// A windowed sinc. The rates' ratio is a fraction, so the filter has as many phases as its denominator.
const kHalf = 16;  // zero crossings on each side of the middle

function divisor(a, b) {
  return b === 0 ? a : divisor(b, a % b);
}

function filterOf(phase, scale, taps) {
  const filter = new Float32Array(taps);
  let sum = 0;
  for (let i = 0; i < taps; ++i) {
    const x = (i - (taps / 2 - 1) - phase) * scale;
    const window = Math.abs(x) < kHalf ? 0.5 + 0.5 * Math.cos((Math.PI * x) / kHalf) : 0;
    filter[i] = (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x)) * window;
    sum += filter[i];
  }
  return filter.map((tap) => tap / sum);
}

export class Resampler {
  constructor(from, to) {
    const common = divisor(from, to);
    this.step = from / common;    // in 1 / phases of an input sample
    this.phases = to / common;
    const scale = Math.min(1, (0.94 * to) / from);  // below half of the lower rate
    this.taps = 2 * Math.ceil(kHalf / scale);
    this.filters = Array.from({length: this.phases}, (_, phase) => filterOf(phase / this.phases, scale, this.taps));
    this.kept = new Float32Array(this.taps - 1);  // input that later outputs need
    this.at = 0;                                  // of the next output, from kept's first sample
  }

  push(input) {
    const all = new Float32Array(this.kept.length + input.length);
    all.set(this.kept);
    all.set(input, this.kept.length);
    const out = [];
    let first = Math.floor(this.at / this.phases);
    for (; first + this.taps <= all.length; first = Math.floor(this.at / this.phases)) {
      const filter = this.filters[this.at % this.phases];
      let sum = 0;
      for (let i = 0; i < this.taps; ++i) sum += filter[i] * all[first + i];
      out.push(sum);
      this.at += this.step;
    }
    const used = Math.min(first, all.length);
    this.kept = all.slice(used);
    this.at -= used * this.phases;
    return out;
  }
}

export const toInt16 = (value) => Math.round(Math.max(-1, Math.min(1, value)) * 32767);
