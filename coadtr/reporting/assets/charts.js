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
const dash = (i) => index.dashes[i];

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
  if (narrow()) stackLegends(spec);
  try {
    if (before) before.finalize();
    const result = await embed(place, spec, "svg", spec.vconcat ? undefined : fitWidth);
    drawn.set(place, result);
    if (chosen) choose(result);
  } catch (error) {
    drawn.delete(place);
    failed(place)(error);
  }
}
/* Names of runs one below the other, where there is no room for two. */
function stackLegends(part) {
  for (const [key, value] of Object.entries(part))
    if (key === "legend" && value?.columns) value.columns = 1;
    else if (value && typeof value === "object") stackLegends(value);
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
