/* ---- Scores: unpacked when a video is picked ---- */
const kept = new Map(); // a few videos stay unpacked
async function unpack(video, entry) {
  if (kept.has(entry.id)) return kept.get(entry.id);
  const bytes = Uint8Array.from(atob($(entry.id).textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const T = video.frames;
  const classes = index.runs[entry.run].classes;
  const C = classes.length;
  const cells = T * C;
  const levels = new Uint16Array(cells);
  for (let c = 0; c < C; c++)
    for (let t = 0, at = c * T, sum = 0; t < T; t++, at++) {
      sum = (sum + (data[at] << 8) + data[cells + at]) & 65535;
      levels[at] = sum;
    }
  const rest = new DataView(data.buffer, 2 * cells);
  // place: index on the page -> row of the run's scores
  const found = { T, C, classes, levels, truth: [], answer: new Int16Array(T), place: new Map(classes.map((k, c) => [k, c])) };
  for (let t = 0; t < T; t++) {
    let best = 0;
    for (let c = 1; c < C; c++) if (levels[c * T + t] > levels[best * T + t]) best = c;
    found.answer[t] = classes[best];
  }
  const labels = (t) => {
    if (!video.multi) return [rest.getInt16(2 * t, true)];
    const all = [];
    for (let c = 0; c < C; c++) if (rest.getUint8(t * C + c)) all.push(c);
    return all;
  };
  for (let t = 0; t < T; t++) found.truth.push(labels(t).filter((c) => c >= 0 && c < C).map((c) => classes[c]));
  const skip = video.multi ? cells : 2 * T;
  found.scored = new Uint8Array(data.buffer, 2 * cells + skip, T);
  if (kept.size >= 12) kept.delete(kept.keys().next().value);
  kept.set(entry.id, found);
  return found;
}

/* Runs of frames with one value. */
function segments(T, value, row, extra) {
  const found = [];
  for (let t = 0, start = 0; t < T; t++)
    if (t === T - 1 || value(t + 1) !== value(t)) {
      const seen = value(t);
      if (seen !== null && seen >= 0) found.push({ row, from: start, to: t + 1, klass: seen, ...extra });
      start = t + 1;
    }
  return found;
}
/* Labels that overlap go into lanes, so that none hides another. */
function truthBands(data) {
  const all = [];
  for (const k of data.classes) {
    const shows = (t) => (data.truth[t].includes(k) ? k : null);
    all.push(...segments(data.T, shows, "truth"));
  }
  all.sort((a, b) => a.from - b.from || a.klass - b.klass);
  const ends = [];
  for (const band of all) {
    let lane = ends.findIndex((end) => end <= band.from);
    if (lane < 0) lane = ends.length;
    ends[lane] = band.to;
    band.row = lane ? `truth ${lane + 1}` : "truth";
  }
  return all.sort((a, b) => (a.row < b.row ? -1 : a.row > b.row ? 1 : a.from - b.from));
}
