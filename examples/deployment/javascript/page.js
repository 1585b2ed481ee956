// A detector in a web page: choose an exported file, then a file of frames, and see the scores move.
//
// A page of yours has frames from somewhere else, and needs of this no more than `open` and `detector.push`.

import * as ort from "onnxruntime-web";
import { openDetector } from "./detector.js";

ort.env.wasm.numThreads = 1; // a small step is done before a second thread has begun

// Open an exported file, given as bytes.
export function open(bytes) {
  return openDetector(ort, bytes, { executionProviders: ["wasm"] });
}

// Answer frames that lie one after the other: the scores of each, and the milliseconds that its step took.
export async function* answer(detector, frames) {
  for (let at = 0; at + detector.channels <= frames.length; at += detector.channels) {
    const frame = frames.subarray(at, at + detector.channels);
    const start = performance.now();
    const scores = await detector.push(frame);
    yield { scores, milliseconds: performance.now() - start };
  }
}

const [model, input, told, classes] = ["model", "frames", "told", "classes"].map((id) => document.getElementById(id));
let detector = null;

async function chosen(field) {
  return new Uint8Array(await field.files[0].arrayBuffer());
}

// Run what a field asks for; what is wrong is told on the page.
function on(field, task) {
  field.addEventListener("change", async () => {
    try {
      await task();
    } catch (error) {
      told.textContent = String(error.message ?? error);
    }
  });
}

function showClasses(names) {
  classes.replaceChildren(
    ...names.flatMap((name) => {
      const [label, meter, value] = ["span", "meter", "span"].map((tag) => document.createElement(tag));
      label.textContent = name;
      meter.setAttribute("aria-label", name);
      return [label, meter, value];
    }),
  );
}

function showScores(scores) {
  scores.forEach((score, index) => {
    classes.children[3 * index + 1].value = score;
    classes.children[3 * index + 2].textContent = score.toFixed(3);
  });
}

on(model, async () => {
  input.disabled = true;
  detector = await open(await chosen(model));
  showClasses(detector.spec.classes);
  told.textContent = `A frame has ${detector.channels} values, ${detector.spec.rate_hz} come a second.`;
  input.disabled = false;
});

on(input, async () => {
  detector.reset();
  const times = [];
  for await (const { scores, milliseconds } of answer(detector, new Float32Array((await chosen(input)).buffer))) {
    times.push(milliseconds);
    showScores(scores);
    if (times.length % 20 === 0) await new Promise(requestAnimationFrame); // let the page draw
  }
  const median = times.sort((one, other) => one - other)[times.length >> 1];
  told.textContent = `${times.length} frames answered; a step takes ${median?.toFixed(2)} ms.`;
});
