"use strict";
(() => {
  const index = JSON.parse(document.getElementById("index").textContent);
  const $ = (id) => document.getElementById(id);
  const make = (tag, text, parent) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text; // names out of files are text, never markup
    if (parent) parent.append(node);
    return node;
  };
  const NOT_SCORED = "not scored";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let mode = dark.matches ? "dark" : "light";
  const narrow = () => window.innerWidth < 700;

  /* ---- Colours: a class keeps hue and dash, whichever classes are drawn ---- */
  const hue = (i) => index.hues[mode][i % index.hues[mode].length];
  const dash = (i) => index.dashes[Math.floor(i / index.hues[mode].length) % index.dashes.length];

  function config() {
    const found = structuredClone(index.configs[mode]);
    if (narrow()) Object.assign(found.axis, { labelLimit: 112, labelFontSize: 11, titleFontSize: 11 });
    if (narrow()) Object.assign(found.legend, { labelLimit: 130, labelFontSize: 11 });
    return found;
  }
  const ERRORS = 1; // of Vega's levels; below it Vega-Lite says only which of several equal settings it took
  const embed = (place, spec, renderer, patch) =>
    vegaEmbed(place, spec, { config: config(), actions: false, renderer, patch, logLevel: ERRORS, tooltip: { theme: mode } });
  // Asked of Vega, not of Vega-Lite, which would take it for both directions where the height goes by steps.
  const fitWidth = (spec) => Object.assign(spec, { autosize: { type: "fit-x", contains: "padding" } });
  const failed = (place) => (error) => {
    place.textContent = "This chart could not be drawn.";
    console.error(error);
  };

  /* ---- The still charts: drawn when they come near the screen ---- */
  const drawn = new Map(); // element -> what vegaEmbed returned
  let chosen = null; // class names to draw in them; null: all

  async function draw(place) {
    const before = drawn.get(place);
    if (before === "drawing") return;
    drawn.set(place, "drawing");
    const spec = structuredClone(index.charts[place.dataset.chart]);
    if (spec.vconcat) fitPanels(spec, place);
    else spec.width = place.clientWidth;
    try {
      if (before) before.finalize();
      const result = await embed(place, spec, "svg", spec.vconcat ? undefined : fitWidth);
      place.style.minHeight = "0";
      drawn.set(place, result);
      if (chosen) choose(result);
    } catch (error) {
      drawn.delete(place);
      failed(place)(error);
    }
  }
  function fitPanels(spec, place) {
    // Panels in a column cannot take the width of their place by themselves.
    for (const panel of spec.vconcat) panel.width = Math.max(160, place.clientWidth - 64);
  }
  function choose(result) {
    if ("shown" in result.view.getState({ signals: (name) => name === "shown" }).signals)
      result.view.signal("shown", chosen).runAsync();
  }
  const near = new IntersectionObserver(
    (entries) => {
      for (const entry of entries)
        if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
    },
    { rootMargin: "500px" },
  );

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

  /* ---- The timeline ---- */
  // The number keeps runs apart where there is no room for the name.
  const named = (run) => (index.runs.length > 1 ? `${run + 1}: ${index.runs[run].name}` : index.runs[run].name);
  const stage = $("stage");
  const state = { video: null, data: [], low: 0, high: 1, cursor: null, classes: new Set(), runs: new Set(index.runs.map((_, i) => i)) };
  let views = []; // the bands, then the scores of each run
  let bands = [];
  const gutter = () => (narrow() ? 58 : 104);
  const seconds = (frames) => (state.video.rate ? frames / state.video.rate : frames);
  const clock = (s, digits) => {
    const whole = Math.floor(s / 60);
    const part = (s - 60 * whole).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
    return `${whole}:${part}`;
  };
  const when = (frame) => {
    if (!state.video.rate) return `frame ${Math.round(frame)}`;
    const span = (state.high - state.low) / state.video.rate;
    return clock(frame / state.video.rate, span < 60 ? 2 : 0);
  };
  const percent = (value) => (value === null ? "unknown" : `${(100 * value).toFixed(1)} %`);

  function specOf(kind) {
    const spec = structuredClone(index.timeline[kind]);
    const parts = spec.layer ?? [spec];
    // Fixed margins, so that time lies at the same place in all of them.
    const margin = { left: gutter(), right: 24, top: 6, bottom: kind === "scores" ? 42 : 2 };
    Object.assign(spec, { width: Math.max(120, stage.clientWidth - gutter() - 24), autosize: "none", padding: margin });
    if (spec.layer) spec.layer[1].mark.color = index.paper[mode];
    for (const part of parts) {
      if (part.encoding.y.axis) part.encoding.y.axis.labelLimit = gutter() - 10;
      const x = part.encoding.x;
      if (kind === "scores" && x.axis) {
        x.axis.title = state.video.rate ? "time (min:s)" : "frame";
        x.axis.tickCount = narrow() ? 4 : 10;
        if (state.video.rate)
          x.axis.labelExpr = "floor(datum.value / 60) + ':' + format(datum.value % 60, high - low < 10 ? '05.2f' : '02d')";
      }
    }
    return spec;
  }
  let building = 0;
  async function build() {
    const turn = ++building;
    for (const { result } of views) result.finalize();
    views = [];
    $("lanes").replaceChildren();
    const shown = state.data.filter(({ entry }) => state.runs.has(entry.run));
    const places = [{ kind: "bands", place: $("bands") }];
    for (const { entry, data } of shown) {
      const lane = make("div", undefined, $("lanes"));
      lane.className = "lane";
      make("h3", `Scores of ${named(entry.run)} (accuracy of this video ${percent(entry.accuracy)})`, lane);
      const place = make("div", undefined, lane);
      place.className = "plot";
      places.push({ kind: "scores", place, entry, data });
    }
    const made = [];
    for (const item of places) {
      try {
        made.push({ ...item, result: await embed(item.place, specOf(item.kind), "canvas") });
      } catch (error) {
        failed(item.place)(error);
      }
      if (turn !== building) {
        for (const { result } of made) result.finalize();
        return;
      }
    }
    views = made;
    for (const { place } of views) place.setAttribute("aria-hidden", "true"); // said by the status and the table
    bands = collectBands(shown);
    paint();
  }
  function collectBands(shown) {
    if (!shown.length) return [];
    const first = shown[0].data;
    const found = truthBands(first);
    for (const { entry, data } of shown) {
      const row = shown.length > 1 ? named(entry.run) : "answer";
      found.push(...segments(data.T, (t) => data.answer[t], row));
    }
    found.push(...segments(first.T, (t) => (first.scored[t] ? null : index.classes.length), NOT_SCORED));
    return found;
  }

  const width = () => (views.length ? Math.max(1, views[0].result.view.width()) : 1);
  let painting = false;
  function paint() {
    if (painting) return;
    painting = true;
    requestAnimationFrame(() => {
      painting = false;
      for (const view of views) paintView(view);
      placeCursor();
      const free = state.video.frames - (state.high - state.low);
      $("position").disabled = free <= 0.5;
      $("position").value = free > 0.5 ? Math.round((1000 * state.low) / free) : 0;
      $("position").setAttribute("aria-valuetext", `${when(state.low)} to ${when(state.high)}`);
      stage.dataset.low = state.low;
      stage.dataset.high = state.high;
    });
  }
  function paintView({ kind, result, data }) {
    const rows = kind === "bands" ? visibleBands() : envelope(data);
    const view = result.view;
    view.signal("low", seconds(state.low)).signal("high", seconds(state.high)).data(kind, rows).runAsync();
    if (kind === "scores") stage.dataset.points = rows.length;
  }
  /* Bands thinner than half a pixel are joined with what follows until they can be seen; zoomed in, none is. */
  function visibleBands() {
    const pixel = (state.high - state.low) / width();
    const found = [];
    let last = null;
    for (const band of bands) {
      if (last && last.row === band.row && band.from < last.until) continue;
      const inside = band.to > state.low && band.from < state.high;
      const until = Math.max(band.to, band.from + pixel / 2);
      if (inside || !found.some((other) => other.row === band.row)) {
        const scored = band.klass < index.classes.length;
        const quiet = band.klass === index.background;
        const name = scored ? index.classes[band.klass] : "";
        const start = Math.max(band.from, state.low);
        const room = (Math.min(band.to, state.high) - start) / pixel - 8;
        found.push({
          row: band.row, start: seconds(band.from), end: seconds(until), from: seconds(start), class: name || null,
          label: inside && !quiet ? fit(name, room) : "", strength: inside ? (quiet ? 0.16 : scored ? 0.95 : 0.5) : 0,
        });
      }
      last = { row: band.row, until };
    }
    return found;
  }
  const fit = (name, room) => {
    const letters = Math.floor(room / 6.4);
    if (letters >= name.length) return name;
    return letters >= 4 ? `${name.slice(0, letters - 1)}…` : "";
  };
  /* Lowest and highest score of each pixel column, in their order in time; every frame where there is room. */
  function envelope(data) {
    const low = Math.max(0, Math.floor(state.low) - 1);
    const high = Math.min(data.T, Math.ceil(state.high) + 1);
    const step = Math.max(1, Math.floor((state.high - state.low) / width()));
    const rows = [];
    for (const k of state.classes) {
      const c = data.place.get(k);
      if (c === undefined) continue;
      const base = c * data.T;
      const push = (t) => rows.push({ start: seconds(t + 0.5), score: data.levels[base + t] / index.levels, class: index.classes[k] });
      for (let t = low - (low % step); t < high; t += step) {
        let least = t;
        let most = t;
        for (let i = t + 1; i < Math.min(t + step, data.T); i++) {
          if (data.levels[base + i] < data.levels[base + least]) least = i;
          if (data.levels[base + i] > data.levels[base + most]) most = i;
        }
        push(Math.min(least, most));
        if (least !== most) push(Math.max(least, most));
      }
    }
    return rows;
  }

  /* ---- What the timeline says ---- */
  let saying = 0;
  function say() {
    clearTimeout(saying);
    saying = setTimeout(() => {
      const { video, low, high } = state;
      if (!video) return;
      const step = Math.max(1, Math.floor((high - low) / width()));
      const parts = [`${video.name}: ${when(low)} to ${when(high)} of ${when(video.frames)}`];
      const names = [...state.classes].map((k) => index.classes[k]);
      parts.push(`${names.length} of ${index.classes.length} classes drawn`);
      parts.push(step > 1 ? `lowest and highest of ${step} frames a pixel` : "every frame drawn");
      $("status").textContent = `${parts.join("; ")}.`;
    }, 250);
  }
  function reading(frame) {
    const shown = state.data.filter(({ entry }) => state.runs.has(entry.run));
    if (!shown.length) return null;
    const truth = shown[0].data.truth[frame].map((k) => index.classes[k]).join(", ") || "nothing";
    const time = state.video.rate ? `${clock(frame / state.video.rate, 2)}, ` : "";
    const runs = shown.map(({ entry, data }) => {
      const scores = [...state.classes]
        .filter((k) => data.place.has(k))
        .map((k) => ({ name: index.classes[k], k, score: data.levels[data.place.get(k) * data.T + frame] / index.levels }))
        .sort((a, b) => b.score - a.score)
        .slice(0, narrow() ? 3 : 4);
      return { name: named(entry.run), answer: index.classes[data.answer[frame]], scores };
    });
    const scored = shown[0].data.scored[frame] ? "" : " (not scored)";
    return { head: `${time}frame ${frame}${scored}`, truth, runs };
  }
  function showTip(frame, x, y) {
    const tip = $("tip");
    const found = reading(frame);
    if (!found) return;
    tip.replaceChildren();
    make("strong", found.head, tip);
    make("div", `shows: ${found.truth}`, tip);
    for (const run of found.runs) {
      make("div", found.runs.length > 1 ? `${run.name}: ${run.answer}` : `answer: ${run.answer}`, tip);
      const table = make("table", undefined, tip);
      for (const { name, k, score } of run.scores) {
        const row = make("tr", undefined, table);
        const cell = make("th", undefined, row);
        cell.scope = "row";
        cell.append(swatch(k), ` ${name}`);
        make("td", score.toFixed(4), row);
      }
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, x + 16 + box.width > window.innerWidth ? x - 16 - box.width : x + 16)}px`;
    tip.style.top = `${Math.max(8, Math.min(y + 16, window.innerHeight - box.height - 8))}px`;
  }
  function placeCursor() {
    const line = $("cursor");
    line.hidden = state.cursor === null || !views.length || state.cursor < state.low || state.cursor > state.high;
    if (!line.hidden) line.style.left = `${left() + ((state.cursor + 0.5 - state.low) / (state.high - state.low)) * width()}px`;
  }
  const left = gutter;
  const frameAt = (x) => state.low + ((x - stage.getBoundingClientRect().left - left()) / width()) * (state.high - state.low);

  /* ---- Moving ---- */
  function show(low, high) {
    const T = state.video.frames;
    const span = Math.min(T, Math.max(Math.min(8, T), high - low));
    state.low = Math.min(Math.max(0, low), T - span);
    state.high = state.low + span;
    paint();
    say();
  }
  function zoom(factor, about) {
    const middle = about ?? (state.low + state.high) / 2;
    show(middle - (middle - state.low) * factor, middle + (state.high - middle) * factor);
  }
  const move = (share) => show(state.low + share * (state.high - state.low), state.high + share * (state.high - state.low));
  function read(step) {
    const middle = Math.floor((state.low + state.high) / 2);
    state.cursor = Math.min(state.video.frames - 1, Math.max(0, state.cursor === null ? middle : state.cursor + step));
    if (state.cursor < state.low || state.cursor >= state.high) {
      const half = (state.high - state.low) / 2;
      show(state.cursor - half, state.cursor + half);
    }
    clearTimeout(saying);
    placeCursor();
    const found = reading(state.cursor);
    if (!found) return;
    const words = found.runs.map((run) => {
      const scores = run.scores.map(({ name, score }) => `${name} ${score.toFixed(4)}`).join(", ");
      return `${run.name} answers ${run.answer}${scores ? `; ${scores}` : ""}`;
    });
    $("status").textContent = `${found.head}: shows ${found.truth}. ${words.join(". ")}.`;
  }
  const keys = {
    "+": () => zoom(0.5, state.cursor ?? undefined), "=": () => zoom(0.5, state.cursor ?? undefined), "-": () => zoom(2), _: () => zoom(2),
    ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), PageUp: () => move(-0.9), PageDown: () => move(0.9),
    Home: () => show(0, state.high - state.low), End: () => show(Infinity, Infinity), 0: () => show(0, state.video.frames),
    ",": () => read(-1), ".": () => read(1),
  };
  keys.End = () => show(state.video.frames - (state.high - state.low), state.video.frames);
  stage.addEventListener("keydown", (event) => {
    if (!state.video || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  stage.addEventListener(
    "wheel",
    (event) => {
      if (!state.video || !(event.ctrlKey || event.metaKey || document.activeElement === stage)) return;
      const sideways = Math.abs(event.deltaX) > Math.abs(event.deltaY);
      const whole = state.high - state.low >= state.video.frames;
      if (!sideways && whole && event.deltaY > 0 && !event.ctrlKey) return; // nothing to zoom out of: let the page scroll
      event.preventDefault();
      if (sideways) move(event.deltaX / width());
      else zoom(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), frameAt(event.clientX));
    },
    { passive: false },
  );
  const fingers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    if (!state.video || event.button > 0) return;
    fingers.set(event.pointerId, event.clientX);
    stage.setPointerCapture(event.pointerId);
    if (event.pointerType === "mouse") stage.focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    if (!state.video) return;
    const before = fingers.get(event.pointerId);
    if (before === undefined) {
      hover(event);
      return;
    }
    const scale = (state.high - state.low) / width();
    if (fingers.size === 1) {
      stage.classList.add("dragging");
      $("tip").hidden = true;
      const by = (before - event.clientX) * scale;
      show(state.low + by, state.high + by);
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const factor = Math.abs(before - other) / Math.max(8, Math.abs(event.clientX - other));
      zoom(Math.min(2, Math.max(0.5, factor)), frameAt((other + event.clientX) / 2));
    }
    fingers.set(event.pointerId, event.clientX);
  });
  function hover(event) {
    const frame = Math.floor(frameAt(event.clientX));
    if (frame < state.low - 1 || frame >= state.high || frame < 0 || frame >= state.video.frames) {
      $("tip").hidden = true;
      return;
    }
    state.cursor = frame;
    placeCursor();
    showTip(frame, event.clientX, event.clientY);
  }
  const release = (event) => {
    const tapped = event.type === "pointerup" && !stage.classList.contains("dragging");
    fingers.delete(event.pointerId);
    stage.classList.remove("dragging");
    if (tapped && event.pointerType === "touch" && state.video) hover(event);
  };
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", release);
  stage.addEventListener("pointerleave", () => {
    $("tip").hidden = true;
    state.cursor = null;
    placeCursor();
  });
  document.addEventListener("scroll", () => ($("tip").hidden = true), { passive: true });
  const onClick = (id, act) => $(id).addEventListener("click", () => state.video && act());
  onClick("zoom-in", () => zoom(0.5));
  onClick("zoom-out", () => zoom(2));
  onClick("left", () => move(-0.5));
  onClick("right", () => move(0.5));
  onClick("whole", () => show(0, state.video.frames));
  $("position").addEventListener("input", (event) => {
    if (!state.video) return;
    const span = state.high - state.low;
    const low = (Number(event.target.value) / 1000) * (state.video.frames - span);
    show(low, low + span);
  });

  /* ---- Choosing ---- */
  function swatch(k) {
    const space = "http://www.w3.org/2000/svg";
    const image = document.createElementNS(space, "svg");
    const line = document.createElementNS(space, "line");
    for (const [name, value] of Object.entries({ width: 26, height: 8, "aria-hidden": "true" })) image.setAttribute(name, value);
    const spaces = dash(k)[1] ? dash(k).join(" ") : "none";
    for (const [name, value] of Object.entries({ x1: 0, x2: 26, y1: 4, y2: 4, stroke: hue(k), "stroke-width": 3.5, "stroke-dasharray": spaces }))
      line.setAttribute(name, value);
    image.append(line);
    return image;
  }
  function boxes(place, names, { on, mark, changed }) {
    place.replaceChildren();
    names.forEach(({ value, name, note }) => {
      const label = make("label", undefined, place);
      const box = make("input", undefined, label);
      box.type = "checkbox";
      box.value = value;
      box.checked = on(value);
      box.addEventListener("change", () => changed(value, box.checked));
      if (mark) label.append(swatch(value));
      make("span", name, label);
      if (note) make("em", note, label);
    });
  }
  function legend() {
    const first = state.data[0]?.data;
    const counts = index.classes.map(() => 0);
    if (first) for (const all of first.truth) for (const k of all) counts[k]++;
    const items = index.classes.map((name, value) => ({
      value, name, note: counts[value] ? `${((100 * counts[value]) / first.T).toFixed(0)} %` : "",
    }));
    items.sort((a, b) => counts[b.value] - counts[a.value] || a.value - b.value);
    boxes($("legend").querySelector(".boxes"), items, {
      on: (k) => state.classes.has(k), mark: true,
      changed: (k, checked) => pick((set) => (checked ? set.add(k) : set.delete(k))),
    });
  }
  function pick(change) {
    change(state.classes);
    for (const box of $("legend").querySelectorAll("input")) box.checked = state.classes.has(Number(box.value));
    if (state.video) paint();
    say();
  }
  /* The classes that the frames in view show or are taken for, longest first; background last. */
  function inView() {
    const counts = new Map();
    for (const { data } of state.data)
      for (let t = Math.floor(state.low); t < Math.min(state.high, data.T); t++) for (const k of data.truth[t]) counts.set(k, (counts.get(k) ?? 0) + 1);
    const order = [...counts].sort((a, b) => b[1] - a[1]).map(([k]) => k);
    const actions = order.filter((k) => k !== index.background);
    return actions.length ? actions : order;
  }
  function chooseClasses() {
    const all = [...$("classes").querySelectorAll("input")];
    chosen = all.every((box) => box.checked) ? null : all.filter((box) => box.checked).map((box) => index.classes[Number(box.value)]);
    for (const result of drawn.values()) if (result !== "drawing") choose(result);
  }
  function setAll(group, value) {
    if (group === "legend") {
      pick((set) => {
        set.clear();
        if (value === true) index.classes.forEach((_, k) => set.add(k));
        if (value === "some") inView().forEach((k) => set.add(k));
      });
    } else {
      for (const box of $(group).querySelectorAll("input")) box.checked = value;
      chooseClasses();
    }
  }
  for (const [name, value] of [["all", true], ["none", false], ["some", "some"]])
    for (const button of document.querySelectorAll(`[data-${name}]`)) button.addEventListener("click", () => setAll(button.dataset[name], value));

  /* ---- Videos ---- */
  async function open(place) {
    const video = index.videos[place];
    $("video").value = String(place);
    stage.setAttribute("aria-busy", "true");
    let data;
    try {
      data = await Promise.all(video.runs.map(async (entry) => ({ entry, data: await unpack(video, entry) })));
    } catch (error) {
      $("status").textContent = "The scores of this video could not be read.";
      console.error(error);
      return;
    }
    if ($("video").value !== String(place)) return; // another was picked meanwhile
    Object.assign(state, { video, data, low: 0, high: video.frames, cursor: null });
    state.classes = new Set(inView().slice(0, 6));
    legend();
    await build();
    stage.removeAttribute("aria-busy");
    stage.dataset.video = video.name;
    say();
  }
  function listVideos() {
    const picker = $("video");
    const group = (label, places) => {
      if (!places.length) return;
      const parent = make("optgroup", undefined, picker);
      parent.label = label;
      for (const place of places) {
        const video = index.videos[place];
        make("option", `${video.name} (${percent(video.accuracy)}, ${video.frames} frames)`, parent).value = String(place);
      }
    };
    const all = index.videos.map((_, place) => place);
    const known = all.filter((place) => index.videos[place].accuracy !== null);
    const few = Math.min(10, Math.floor(known.length / 2));
    if (known.length < 12) group("By accuracy, worst first", known);
    else {
      group(`Worst ${few}`, known.slice(0, few));
      group(`Best ${few}`, known.slice(-few).reverse());
      group("The others, worst first", known.slice(few, -few));
    }
    group("Accuracy unknown", all.filter((place) => index.videos[place].accuracy === null));
    picker.addEventListener("change", () => open(Number(picker.value)));
    const beside = (by) => {
      const at = picker.selectedIndex + by;
      if (at >= 0 && at < picker.options.length) open(Number(picker.options[at].value));
    };
    $("previous").addEventListener("click", () => beside(-1));
    $("next").addEventListener("click", () => beside(1));
  }

  /* ---- Light and dark, width ---- */
  function setMode(next) {
    mode = next;
    document.documentElement.dataset.theme = mode;
    $("theme").setAttribute("aria-pressed", String(mode === "dark"));
    for (const key of document.querySelectorAll(".key")) key.style.background = hue(Number(key.dataset.run));
    boxes($("classes").querySelector(".boxes"), index.classes.map((name, value) => ({ value, name })), {
      on: (k) => chosen === null || chosen.includes(index.classes[k]), mark: true, changed: chooseClasses,
    });
  }
  function redraw() {
    legend();
    if (state.video) build();
    for (const [place, result] of drawn) if (result !== "drawing") draw(place);
  }
  $("theme").addEventListener("click", () => {
    setMode(mode === "dark" ? "light" : "dark");
    redraw();
  });
  dark.addEventListener("change", () => {
    setMode(dark.matches ? "dark" : "light");
    redraw();
  });
  let size = window.innerWidth;
  let waiting = 0;
  window.addEventListener("resize", () => {
    if (window.innerWidth === size) return; // a phone's address bar comes and goes
    size = window.innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(redraw, 200);
  });

  setMode(mode);
  listVideos();
  boxes($("runs-shown").querySelector(".boxes"), index.runs.map((run, value) => ({ value, name: named(value) })), {
    on: () => true,
    changed: (run, checked) => {
      if (checked) state.runs.add(run);
      else state.runs.delete(run);
      if (state.video) build();
      say();
    },
  });
  for (const place of document.querySelectorAll(".chart")) near.observe(place);
  const ready = index.videos.length ? open(Number($("video").options[0].value)) : Promise.resolve();
  ready.then(() => {
    performance.mark("ready");
    document.documentElement.dataset.ready = "yes";
  });
})();
