// The jobs of the server: progress, play, download, delete.
import {apiKey, freeSource, getJson, readEvents, request, sourceOf} from './api.js';
import {byId, element, say} from './dom.js';

const kMostFollowed = 2;  // a browser has six connections to a server; the others are asked for now and then
const kDownloadMs = 60000;  // in which the browser begins to read what it downloads

const isEnded = (video) => video.status !== 'queued' && video.status !== 'running';

function stateText(video) {
  const {timings = {}} = video;
  switch (video.status) {
    case 'queued':
      if (video.waits_for === 'sessions') return 'Waits until no live session is open';
      return video.queue_position > 0 ? `Waits behind ${video.queue_position}` : 'Waits until the engine is free';
    case 'running':
      return `${video.stage || 'Runs'} · ${video.frames_done} of ${video.frames} frames`;
    case 'completed':
      return `${(video.frames_done / video.fps).toFixed(1)} s · ${video.width}×${video.height} · ` +
        `${Math.round(timings.frames_per_second || 0)} frames a second`;
    case 'failed':
      return `Failed: ${video.error?.message || 'no reason given'}`;
    default:
      return 'Cancelled';
  }
}

export class Gallery {
  constructor() {
    this.items = new Map();  // by id: {video, node}
    this.followed = new Map();
    byId('player-close').addEventListener('click', () => byId('player').close());
    byId('player').addEventListener('close', () => this.endPlay());
  }

  // Whether a job runs or waits.
  isBusy() {
    return [...this.items.values()].some(({video}) => !isEnded(video));
  }

  async refresh() {
    const {data} = await getJson('/v1/videos');
    const known = new Set(data.map(({id}) => id));
    for (const id of this.items.keys()) if (!known.has(id)) this.drop(id);
    for (const video of [...data].reverse()) this.put(video);
    for (const video of [...data].reverse()) if (!isEnded(video)) this.follow(video.id);
  }

  add(video) {
    this.put(video);
    this.follow(video.id);
  }

  put(video) {
    const item = this.items.get(video.id) || this.create(video.id);
    const news = JSON.stringify(video);
    if (item.news === news) return;
    const before = item.video?.status;
    Object.assign(item, {video, news});
    this.show(item);
    if (before && before !== video.status) say(byId('gallery-note'), `Video: ${stateText(video)}`);
    byId('gallery-empty').hidden = this.items.size > 0;
  }

  drop(id) {
    this.items.get(id)?.node.remove();
    this.items.delete(id);
    this.followed.get(id)?.abort();
    byId('gallery-empty').hidden = this.items.size > 0;
  }

  async follow(id) {
    if (this.followed.has(id) || this.followed.size >= kMostFollowed) return;
    const abort = new AbortController();
    this.followed.set(id, abort);
    try {
      await readEvents(`/v1/videos/${id}/events`, abort.signal, (video) => this.items.has(id) && this.put(video));
    } catch {
      // The next refresh() tells what became of it.
    }
    this.followed.delete(id);
  }

  create(id) {
    const parts = {
      thumb: element('div', {className: 'thumb'}),
      text: element('p'),
      bar: element('progress', {max: 100, ariaLabel: 'Progress'}),
      play: element('button', {className: 'small', textContent: 'Play'}),
      save: element('button', {className: 'small', textContent: 'Download'}),
      remove: element('button', {className: 'small'}),
    };
    parts.play.addEventListener('click', () => this.play(id));
    parts.save.addEventListener('click', () => this.save(id));
    parts.remove.addEventListener('click', () => this.remove(id));
    const row = element('div', {className: 'row'}, parts.play, parts.save, parts.remove);
    const node = element('li', {}, parts.thumb, parts.text, parts.bar, row);
    byId('videos').prepend(node);
    const item = {node, parts};
    this.items.set(id, item);
    return item;
  }

  show({video, parts, node}) {
    node.dataset.status = video.status;
    say(parts.text, stateText(video));
    parts.text.classList.toggle('bad', video.status === 'failed');
    parts.bar.hidden = isEnded(video);
    parts.bar.value = video.progress;
    // A video can be watched while it is made; a copy in memory cannot, and that is needed where there is a key.
    const plays = video.status === 'completed' || (video.status === 'running' && video.frames_done > 0 && !apiKey());
    parts.play.hidden = !plays;
    parts.save.hidden = video.status !== 'completed';
    parts.remove.textContent = isEnded(video) ? 'Delete' : 'Cancel';
    if (parts.thumb.childElementCount === 0) this.showThumb(video, parts.thumb);
  }

  showThumb(video, thumb) {
    const time = new Date(video.created_at * 1000).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit'});
    thumb.textContent = time;
    if (video.status !== 'completed' || apiKey()) return;
    const properties = {src: `/v1/videos/${video.id}/content#t=0.2`, muted: true, preload: 'metadata', tabIndex: -1};
    thumb.replaceChildren(element('video', {...properties, ariaHidden: 'true'}));
  }

  async attempt(what) {
    try {
      await what();
    } catch (error) {
      say(byId('problem'), error.message);
    }
  }

  play(id) {
    return this.attempt(async () => {
      const video = byId('player-video');
      video.src = await sourceOf(`/v1/videos/${id}/content`);
      byId('player').showModal();
      video.play().catch(() => {});
    });
  }

  endPlay() {
    const video = byId('player-video'), source = video.getAttribute('src');
    video.removeAttribute('src');
    freeSource(source);
  }

  save(id) {
    return this.attempt(async () => {
      const link = element('a', {href: await sourceOf(`/v1/videos/${id}/content`), download: `${id}.mp4`});
      link.click();
      setTimeout(() => freeSource(link.href), kDownloadMs);
    });
  }

  // A job that has not ended is cancelled, and then stays in the list.
  remove(id) {
    return this.attempt(async () => {
      const {video} = this.items.get(id), wasEnded = isEnded(video);
      if (video.status === 'completed' && !confirm('Delete this video? It cannot be brought back.')) return;
      const answer = await (await request(`/v1/videos/${id}`, {method: 'DELETE'})).json();
      if (wasEnded) return this.drop(id);
      this.put(answer);
    });
  }
}
