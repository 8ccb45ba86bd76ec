// Small helpers for elements.
export const byId = (id) => document.getElementById(id);

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Screen readers say a live region again only where its text changes.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A hint that may be an error.
export function note(node, text, isBad = false) {
  node.classList.toggle('bad', isBad);
  say(node, text);
}

export function setMeter(node, fraction, text) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, fraction)));
  node.setAttribute('aria-valuenow', percent);
  if (text) node.setAttribute('aria-valuetext', text);
  node.firstElementChild.style.width = `${percent}%`;
}

// Calls take (file) for a file that is dropped anywhere, which would open it in place of the page otherwise.
export function takeDrops(take) {
  const mark = (isOver) => document.body.classList.toggle('over', isOver);
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    mark(true);
  });
  document.addEventListener('dragleave', (event) => event.relatedTarget || mark(false));
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    mark(false);
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files[0]);
  });
}

export function bytesText(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}
