// A detector of one stream, of a file that `coadtr export format=onnx` wrote, for Node and for web pages.
//
//   import * as ort from "onnxruntime-web";
//   const detector = await openDetector(ort, bytes);         // bytes: the file, a Uint8Array
//   const scores = await detector.push(frame);               // frame: a Float32Array of detector.channels values

// ort: onnxruntime-node or onnxruntime-web. options: of its sessions, such as {executionProviders: ["wasm"]}.
export async function openDetector(ort, bytes, options = {}) {
  const text = readProperty(bytes, "coadtr");
  if (text === null) throw new Error("the file says nothing of itself; give a file that `coadtr export` wrote");
  const told = JSON.parse(text);
  const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: 1, logSeverityLevel: 3, ...options });
  const fresh = {};
  for (const leaf of told.state) fresh[leaf.name] = await freshTensor(ort, leaf);
  return new Detector(ort, session, told.spec, fresh);
}

class Detector {
  #ort;
  #session;
  #fresh;
  #state;
  #last = Promise.resolve();

  constructor(ort, session, spec, fresh) {
    this.#ort = ort;
    this.#session = session;
    this.#fresh = fresh;
    this.spec = spec; // classes, streams, rate_hz, ...
    this.channels = spec.streams.reduce((sum, part) => sum + part.channels, 0);
    this.reset();
  }

  // The next frame is the first of a new stream.
  reset() {
    this.#state = this.#fresh;
  }

  // Take the stream's next frame and return its scores, one for each class, from 0 to 1. Frames may be pushed before
  // the last one is answered: they are taken one after the other.
  push(frame) {
    const answer = this.#last.then(() => this.#step(Float32Array.from(frame)));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #step(frame) {
    if (frame.length !== this.channels) {
      throw new RangeError(`a frame has ${frame.length} values; give ${this.channels}`);
    }
    const feeds = { frame: new this.#ort.Tensor("float32", frame, [1, frame.length]) };
    for (const [name, tensor] of Object.entries(this.#state)) feeds[`state.${name}`] = tensor;
    const after = await this.#session.run(feeds);
    const logits = after.logits.data;
    if (!logits.every(Number.isFinite)) throw new RangeError("the answer is not finite: this frame is not taken");
    // What comes out goes in with the next frame.
    this.#state = Object.fromEntries(Object.keys(this.#state).map((name) => [name, after[`next.${name}`]]));
    return scores(logits, this.spec);
  }
}

// In double precision; the ignored class scores 0.
function scores(logits, { head, ignored }) {
  const values = Float64Array.from(logits);
  if (ignored !== null) values[ignored] = -Infinity;
  if (head === "sigmoid") return values.map((value) => 1 / (1 + Math.exp(-value)));
  const largest = values.reduce((most, value) => Math.max(most, value));
  const shares = values.map((value) => Math.exp(value - largest));
  const sum = shares.reduce((total, share) => total + share);
  return shares.map((share) => share / sum);
}

// One array of what a stream remembers before its first frame: one number everywhere, or packed values.
async function freshTensor(ort, { name, shape, dtype, fill, values }) {
  const kinds = { float32: [Float32Array, Number], int64: [BigInt64Array, BigInt] };
  if (!(dtype in kinds)) throw new Error(`state ${name} is ${dtype}, which this program does not know`);
  const [Kind, number] = kinds[dtype];
  const size = shape.reduce((product, length) => product * length, 1);
  const data = values === undefined ? new Kind(size).fill(number(fill)) : new Kind(await unpack(values));
  if (data.length !== size) throw new Error(`state ${name} holds ${data.length} values, not ${size}`);
  return new ort.Tensor(dtype, data, [1, ...shape]);
}

// Base64 of zlib of little-endian numbers.
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

// A metadata property of an ONNX file, or null. The packages tell nothing of these, so the file's outermost protocol
// buffer is walked: fields 14 are the properties, each with its key in field 1 and its value in field 2.
function readProperty(bytes, wanted) {
  for (const [field, property] of fields(bytes)) {
    if (field !== 14) continue;
    const { 1: key, 2: value } = Object.fromEntries([...fields(property)].map(([at, text]) => [at, decode(text)]));
    if (key === wanted) return value;
  }
  return null;
}

function decode(bytes) {
  return new TextDecoder().decode(bytes);
}

// Number and bytes of each field that has a length; the others are passed over.
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error("the file ends too soon: it is no ONNX file, or damaged");
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 2) {
      const length = varint();
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else if (kind === 0) varint();
    else if (kind === 1 || kind === 5) at += kind === 1 ? 8 : 4;
    else throw new Error("this is no ONNX file, or damaged");
  }
}
