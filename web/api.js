// Requests to the server that this page came from.
const kKeyName = 'liveavatar-key';
let key = sessionStorage.getItem(kKeyName) || '';
let onKeyRefused = () => {};

export class ServerError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, {status, code});
  }
}

export const apiKey = () => key;

export function setApiKey(text) {
  key = text.trim();
  sessionStorage.setItem(kKeyName, key);
}

export function whenKeyIsRefused(call) {
  onKeyRefused = call;
}

async function errorOf(response) {
  const body = await response.json().catch(() => ({}));
  const {code = 'unknown', message = `The server answered ${response.status}.`} = body.error || {};
  return new ServerError(response.status, code, message);
}

// Throws ServerError; status 0: no answer.
export async function request(path, {method = 'GET', body, signal} = {}) {
  let response;
  try {
    response = await fetch(path, {method, body, signal, headers: key ? {Authorization: `Bearer ${key}`} : {}});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    if (error instanceof TypeError && /header/i.test(error.message))
      throw new ServerError(401, 'key', 'The key has characters that no key can have.');
    throw new ServerError(0, 'unreachable', 'The server does not answer.');
  }
  if (response.ok) return response;
  if (response.status === 401) onKeyRefused();
  throw await errorOf(response);
}

export const getJson = async (path) => (await request(path)).json();

// What /health says, also while it says "not yet". Null: no answer.
export async function health() {
  try {
    return await (await fetch('/health')).json();
  } catch {
    return null;
  }
}

export async function keyWorks() {
  try {
    await request('/v1/portraits');
    return true;
  } catch (error) {
    return error.status !== 401;
  }
}

// Server-sent events by fetch, since an EventSource cannot send a key. Returns at their end.
export async function readEvents(path, signal, onData) {
  const reader = (await request(path, {signal})).body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events)
      for (const line of event.split('\n'))
        if (line.startsWith('data: ')) onData(JSON.parse(line.slice(6)));
  }
}

// A path for <img> and <video>, which cannot send a key: with a key it is a copy in memory.
export async function sourceOf(path) {
  if (!key) return path;
  return URL.createObjectURL(await (await request(path)).blob());
}

// Frees the copy, where it is one.
export const freeSource = (source) => source?.startsWith('blob:') && URL.revokeObjectURL(source);

// The sub-protocols of the live socket: a browser cannot send headers with one.
export const socketProtocols = () => (key ? ['liveavatar.v1', `bearer.${key}`] : ['liveavatar.v1']);
