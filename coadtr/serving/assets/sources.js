// Pictures of this machine: its webcam, or a video file. Of a file nothing is sent but what the model looks at.

const WIDTH = 640;
const INSECURE =
  "Browsers lend webcams to pages of https or localhost alone: put a proxy with certificates before the server.";
const REFUSED = {
  NotAllowedError: "This page may not use the webcam: allow it beside the address of the page, and start again.",
  NotFoundError: "There is no webcam: plug one in, or choose a video file.",
  NotReadableError: "Another program uses the webcam: close that one, and start again.",
};

// Each returns what there is to do with it: {time(mediaTime): seconds, stop()}.
export async function openWebcam(video) {
  if (!navigator.mediaDevices) throw new Error(INSECURE);
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WIDTH } }, audio: false });
  } catch (error) {
    throw new Error(REFUSED[error.name] ?? `The webcam cannot be used: ${error.message}`, { cause: error });
  }
  video.srcObject = stream;
  const began = performance.now();
  return {
    time: () => (performance.now() - began) / 1000,
    stop: () => {
      for (const track of stream.getTracks()) track.stop();
      video.srcObject = null;
    },
  };
}

export async function openFile(video, file) {
  const address = URL.createObjectURL(file);
  video.src = address;
  const stop = () => {
    video.removeAttribute("src");
    video.load();
    URL.revokeObjectURL(address);
  };
  try {
    await new Promise((done, failed) => {
      video.onloadeddata = done;
      video.onerror = failed;
    });
    if (!video.videoWidth) throw new TypeError("no pictures");
  } catch (error) {
    stop();
    const remedy = `convert it to MP4 (H.264) or WebM, or run coadtr live source=${file.name}`;
    throw new Error(`This browser cannot play ${file.name}: ${remedy}`, { cause: error });
  } finally {
    video.onloadeddata = video.onerror = null;
  }
  return { time: (mediaTime) => mediaTime, stop };
}

// Call take(time) for pictures of a video that plays, so many a second at most. Returns a function that stops it.
// timeOf(mediaTime): seconds, which do not go back.
export function sample(video, perSecond, timeOf, take) {
  let due = -Infinity;
  let request;
  const timed = "requestVideoFrameCallback" in video;
  const wait = () => {
    if (timed) request = video.requestVideoFrameCallback(look);
    else request = requestAnimationFrame(() => look(0, { mediaTime: video.currentTime }));
  };
  const look = (_, { mediaTime }) => {
    wait();
    const time = timeOf(mediaTime);
    if (video.paused || time < due) return;
    due = Math.max(due + 1 / perSecond, time + 0.5 / perSecond);
    take(time);
  };
  wait();
  return () => (timed ? video.cancelVideoFrameCallback(request) : cancelAnimationFrame(request));
}
