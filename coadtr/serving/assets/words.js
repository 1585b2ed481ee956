// Numbers and times in words, and elements to put them in.

const EPOCH = 1e8; // seconds; later times are those of a wall clock

export const $ = (id) => document.getElementById(id);

export function make(tag, text, parent, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  parent?.append(element);
  return element;
}

// Put in a name that may break after its underscores.
export function breakable(element, name) {
  const [first, ...others] = name.split(/(?<=_)/);
  element.replaceChildren(first, ...others.flatMap((part) => [document.createElement("wbr"), part]));
}

// 83.04 becomes "1:23.0"; seconds since 1970 become the time of day.
export function moment(seconds, digits = 1) {
  if (!Number.isFinite(seconds)) return "?";
  if (seconds > EPOCH) return new Date(1000 * seconds).toLocaleTimeString([], { hour12: false });
  const unit = 10 ** digits;
  const parts = Math.round(Math.abs(seconds) * unit);
  const minutes = Math.floor(parts / (60 * unit));
  const rest = ((parts - 60 * unit * minutes) / unit).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${seconds < 0 && parts ? "-" : ""}${minutes}:${rest}`;
}

export function span(seconds) {
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}

export const percent = (score) => `${Math.round(100 * score)} %`;

export function milliseconds(value) {
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ms`;
}

// The value below which a part of the values lies; NaN of none.
export function quantile(values, part) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] : NaN;
}
