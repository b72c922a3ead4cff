// What is done while the library of the viewer is still on its way: the server's picture of the opened slice in its place, and frames.
import { dot } from "./viewer-geometry.js";

export const ACCEPT = "multipart/related; type=application/octet-stream; transfer-syntax=*";
const AT_ONCE = 6;
const MOST_FRAMES = 200;
const MOST_BYTES = 64 * 2 ** 20;
// How the planes look at the patient: what is to the right and what is below.
const VIEWS = { axial: [[1, 0, 0], [0, 1, 0]], coronal: [[1, 0, 0], [0, 0, -1]], sagittal: [[0, 1, 0], [0, 0, -1]] };

export function addressOf(told, image, number) {
  return `${location.origin}${told.root}${encodeURIComponent(image.uid)}/frames/${number}`;
}

// Fetches frames of the series that was opened, the nearest first. Gives address -> promise of { bytes, syntax }, or of null where that failed.
export function fetchFrames(told) {
  const [number, start] = told.start;
  const { frames } = told.displays[number];
  const value = (tag) => (told.images[frames[start][0]].elements[tag] ?? told.common[tag])?.Value?.[0] || 1;
  const bytes = value("00280010") * value("00280011") * value("00280002") * Math.ceil(value("00280100") / 8);
  const order = frames.map((frame, at) => [Math.abs(at - start), frame]).sort(([one], [other]) => one - other);
  const wanted = order.map(([, frame]) => frame).filter(([at]) => told.images[at].how === "sent" && told.root).slice(0, Math.min(MOST_FRAMES, Math.floor(MOST_BYTES / bytes)));
  const early = new Map();
  const waiting = [];
  for (const [at, frame] of wanted) {
    const address = addressOf(told, told.images[at], frame);
    early.set(address, new Promise((resolve) => waiting.push(() => fetchFrame(address).then(resolve))));
  }
  const worker = async () => {
    while (waiting.length) await waiting.shift()();
  };
  for (let at = 0; at < AT_ONCE; at += 1) worker();
  return early;
}

async function fetchFrame(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: ACCEPT } });
    return answer.ok ? partOf(new Uint8Array(await answer.arrayBuffer()), answer.headers.get("Content-Type") ?? "") : null;
  } catch {
    return null;
  }
}

// The one part of a multipart answer (PS3.18 8.7.3, RFC 2046).
function partOf(body, type) {
  const boundary = /boundary="?([^";]+)"?/.exec(type)?.[1];
  if (!boundary) return null;
  const ends = (at) => body[at] === 13 && body[at + 1] === 10 && body[at + 2] === 13 && body[at + 3] === 10;
  let head = 0;
  while (head < Math.min(body.length, 4096) && !ends(head)) head += 1;
  const syntax = /transfer-syntax="?([0-9.]+)/.exec(new TextDecoder("latin1").decode(body.subarray(0, head)))?.[1];
  const close = body.length - `\r\n--${boundary}--`.length;
  const end = [close, close - 2].find((at) => at > head && new TextDecoder("latin1").decode(body.subarray(at, at + boundary.length + 6)) === `\r\n--${boundary}--`);
  return syntax && end ? { bytes: body.slice(head + 4, end), syntax } : null;
}

// Shows the server's picture where the viewer will show the same, as large and with the same window, and notes when it could be seen.
export async function showPicture(root, told) {
  const box = document.querySelector("[data-viewer-picture]");
  const picture = box?.querySelector("img");
  const [number, start] = told.start;
  const display = told.displays[number];
  if (!picture || !looksTheSame(root, told, display, start)) return;
  const ports = root.querySelector("[data-ports]");
  const template = root.querySelector("template[data-port]");
  ports.dataset.count = display.volume ? 3 : 1;
  ports.replaceChildren(...Array.from({ length: display.volume ? 3 : 1 }, () => template.content.firstElementChild.cloneNode(true)));
  for (const slider of ports.querySelectorAll(".viewer-slider")) slider.hidden = true;
  root.querySelector("[data-only=volume]").hidden = !display.volume;
  root.querySelector("[data-only=film]").hidden = display.frames.length < 2;
  root.hidden = false;
  box.hidden = true;
  picture.remove();
  picture.className = "viewer-first";
  ports.firstElementChild.append(picture);
  fitPicture(picture);
  try {
    await picture.decode();
  } catch {
    picture.remove();
    return;
  }
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  if (picture.isConnected) root.dataset.pictureMs = root.dataset.firstMs ??= Math.round(performance.now());
}

// The library fits what lies between the middles of the outermost pixels into the viewport.
export function fitPicture(picture) {
  const [width, height] = [Number(picture.getAttribute("width")), Number(picture.getAttribute("height"))];
  const screen = picture.parentElement.querySelector(".viewer-screen");
  const scale = Math.min(screen.clientWidth / Math.max(1, width - 1), screen.clientHeight / Math.max(1, height - 1));
  const place = { width: width * scale, height: height * scale, left: (screen.clientWidth - width * scale) / 2, top: (screen.clientHeight - height * scale) / 2 };
  for (const [name, value] of Object.entries(place)) picture.style[name] = `${value}px`;
}

function looksTheSame(root, told, display, start) {
  const [at, frame] = display.frames[start];
  const elements = { ...told.common, ...told.images[at].elements, ...told.images[at].of_frames?.[frame] };
  const value = (tag) => elements[tag]?.Value?.[0];
  const isColour = (value("00280002") ?? 1) > 1 || told.images[at].how === "drawn";
  const hasWindow = Number.isFinite(value("00281050")) && value("00281051") > 0;
  if (frame !== Number(root.dataset.frame) || !(isColour || hasWindow)) return false;
  if (!display.volume) return true;
  const view = VIEWS[display.volume.plane];
  return Boolean(view) && dot(display.volume.right, view[0]) > 0.9995 && dot(display.volume.down, view[1]) > 0.9995;
}
