// The choice of a portrait: those that the server keeps, and one from this computer.
import {freeSource, getJson, request, sourceOf} from './api.js';
import {byId, element, note} from './dom.js';

const kMostLiveBytes = 11 * 2 ** 20;  // in base64 a message of 16 MiB

function readBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(',') + 1));
    reader.onerror = () => reject(new Error('The image cannot be read.'));
    reader.readAsDataURL(file);
  });
}

export class Portraits {
  constructor(onChoice) {
    this.onChoice = onChoice;
    this.kept = [];
    this.sources = new Map();
    this.chosen = null;  // {name} or {file}, with source: what <img> shows
    byId('keep').addEventListener('submit', (event) => this.keep(event));
    byId('forget').addEventListener('click', () => this.forget(this.chosen.name));
  }

  note(text, isBad) {
    note(byId('portrait-note'), text, isBad);
  }

  async refresh() {
    this.kept = (await getJson('/v1/portraits')).data;
    for (const {name} of this.kept)
      if (!this.sources.has(name)) this.sources.set(name, await sourceOf(`/v1/portraits/${name}`));
    const isGone = this.chosen?.name && !this.kept.some(({name}) => name === this.chosen.name);
    if (isGone) this.chosen = null;
    if (!this.chosen && this.kept.length > 0) return this.chooseKept(this.kept[0].name);
    this.show();
  }

  // Another server may have other images by the same names.
  forgetSources() {
    for (const source of this.sources.values()) freeSource(source);
    this.sources.clear();
  }

  chooseKept(name) {
    this.choose({name, source: this.sources.get(name)});
  }

  takeFile(file) {
    if (!file) return;
    if (file.type && !file.type.startsWith('image/')) return this.note('This file is no image.', true);
    this.note('');
    freeSource(this.file?.source);
    this.file = {file, source: URL.createObjectURL(file)};
    byId('keep-name').value = file.name.replace(/\.[^.]*$/, '').replace(/[^A-Za-z0-9_-]+/g, '-').slice(0, 64);
    this.choose(this.file);
  }

  choose(portrait) {
    this.chosen = portrait;
    byId('keep').hidden = !portrait.file;
    this.show();
    this.onChoice(portrait);
  }

  tile(label, content, isChosen, onChange) {
    const radio = element('input', {type: 'radio', name: 'portrait', checked: isChosen, onchange: onChange});
    const tile = element('span', {className: 'tile'}, content);
    return element('label', {title: label}, radio, tile, element('span', {className: 'name', textContent: label}));
  }

  picture(source) {
    return element('img', {src: source, alt: ''});
  }

  fileInput() {
    const input = element('input', {type: 'file', accept: 'image/*', id: 'portrait-file'});
    input.addEventListener('change', () => this.takeFile(input.files[0]));
    const tile = element('span', {className: 'tile', textContent: '+', ariaHidden: 'true'});
    return element('label', {title: 'Choose an image'}, input, tile,
                   element('span', {className: 'name', textContent: 'Choose…'}));
  }

  show() {
    const focused = document.activeElement?.name === 'portrait';
    const tiles = this.kept.map(({name}) =>
      this.tile(name, this.picture(this.sources.get(name)), this.chosen?.name === name, () => this.chooseKept(name)));
    if (this.file)
      tiles.push(this.tile('Your image', this.picture(this.file.source), this.chosen === this.file,
                           () => this.choose(this.file)));
    tiles.push(this.fileInput());
    byId('portraits').replaceChildren(...tiles);
    byId('forget').hidden = !this.chosen?.name;
    byId('forget').textContent = `Forget ${this.chosen?.name}`;
    if (focused) byId('portraits').querySelector('input:checked')?.focus();
  }

  async keep(event) {
    event.preventDefault();
    const name = byId('keep-name').value;
    try {
      await request(`/v1/portraits/${name}`, {method: 'PUT', body: this.file.file});
      this.note(`The server keeps it as ${name} until the server ends.`);
      this.sources.set(name, this.file.source);
      this.file = null;
      this.chooseKept(name);
      await this.refresh();
    } catch (error) {
      this.note(error.message, true);
    }
  }

  async forget(name) {
    if (!confirm(`Forget the portrait ${name}? Nobody can use it by this name then.`)) return;
    try {
      await request(`/v1/portraits/${name}`, {method: 'DELETE'});
      freeSource(this.sources.get(name));
      this.sources.delete(name);
      this.note(`The server has forgotten ${name}.`);
      await this.refresh();
    } catch (error) {
      this.note(error.message, true);
    }
  }

  // The field portrait of the event start.
  async forLive() {
    const {name, file} = this.chosen;
    if (name) return name;
    if (file.size > kMostLiveBytes) throw new Error('The image is too large for a live session: 11 MiB at most.');
    return readBase64(file);
  }

  // Fields of a job's form.
  addTo(form) {
    const {name, file} = this.chosen;
    if (name) form.append('portrait', name);
    else form.append('image', file);
  }
}
