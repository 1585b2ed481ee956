// Answer a live stream by an exported ONNX file in Node.
//
//   node detect.js model.onnx [--wasm] [--times] < frames.f32
//
// Frames come on standard input, D little-endian float32 values each; each is answered by a line of C scores. It runs
// onnxruntime-node, or onnxruntime-web (what a web page runs) with --wasm. With --times each line begins with the
// milliseconds that its step took.

import { readFile } from "node:fs/promises";
import { openDetector } from "./detector.js";

const words = process.argv.slice(2);
const paths = words.filter((word) => !word.startsWith("--"));
if (paths.length !== 1 || words.some((word) => word.startsWith("--") && !["--wasm", "--times"].includes(word))) {
  console.error("usage: node detect.js model.onnx [--wasm] [--times] < frames.f32");
  process.exit(2);
}
process.on("uncaughtException", (error) => {
  console.error(`detect.js: ${error.message}`);
  process.exit(1);
});
const wasm = words.includes("--wasm");
const timed = words.includes("--times");

const ort = await import(wasm ? "onnxruntime-web" : "onnxruntime-node");
if (wasm) ort.env.wasm.numThreads = 1; // a small step is done before a second thread has begun
const options = { executionProviders: [wasm ? "wasm" : "cpu"] };
const detector = await openDetector(ort, await readFile(paths[0]), options);

const size = 4 * detector.channels;
let held = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  held = Buffer.concat([held, chunk]);
  let at = 0;
  for (; at + size <= held.length; at += size) {
    const frame = Float32Array.from({ length: detector.channels }, (_, index) => held.readFloatLE(at + 4 * index));
    const start = performance.now();
    const scores = await detector.push(frame);
    const spent = performance.now() - start;
    const line = Array.from(scores, (score) => score.toPrecision(9)).join(" ");
    process.stdout.write(`${timed ? `${spent.toFixed(6)} ` : ""}${line}\n`);
  }
  held = held.subarray(at);
}
