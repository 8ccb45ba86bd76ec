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

export function setMeter(node, fraction, text) {
  const percent = Math.round(100 * Math.min(1, Math.max(0, fraction)));
  node.setAttribute('aria-valuenow', percent);
  if (text) node.setAttribute('aria-valuetext', text);
  node.firstElementChild.style.width = `${percent}%`;
}

// Calls take(file) for a file that is dropped on the node.
export function takeDrops(node, take) {
  const over = (on) => (event) => {
    event.preventDefault();
    node.classList.toggle('over', on);
  };
  node.addEventListener('dragover', over(true));
  node.addEventListener('dragleave', over(false));
  node.addEventListener('drop', (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length > 0) take(event.dataTransfer.files[0]);
  });
}

export function bytesText(bytes) {
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`;
}
