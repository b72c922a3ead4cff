// Frames one after the other, as they were taken. A frame that cannot be decoded here is drawn by the server.
import { clamp } from "./viewer-geometry.js";
import { elementsOf, Enums, imageLoader, nameFrame, openViewports } from "./viewer-library.js";
import { words } from "./words.js";

const AHEAD_BYTES = 256 * 2 ** 20;
const AT_ONCE = 3;

export class Stack {
  isVolume = false;
  isOpen = false;

  constructor(told, display, start, engine, changed, { cpu }) {
    this.told = told;
    this.display = display;
    this.engine = engine;
    this.changed = changed;
    this.options = { useRGBA: cpu, priority: 5, requestType: Enums.RequestType.Interaction };
    this.imageIds = display.frames.map((frame) => nameFrame(told, frame));
    this.ports = [{ name: "stack", label: words("Slice") }];
    this.index = start;
    this.wanted = start;
    this.failed = new Map();
    this.replaced = new Set();
    this.closed = false;
  }

  get hasPatient() {
    return Boolean(elementsOf(this.told, ...this.frame())["00200037"]?.Value);
  }

  async open() {
    const [port] = this.ports;
    openViewports(this.engine, [{ viewportId: port.name, element: port.screen, type: Enums.ViewportType.STACK, defaultOptions: { background: [0, 0, 0], aspectRatio: this.aspectRatio() } }]);
    port.viewport = this.engine.getViewport(port.name);
    await this.show(this.index);
    this.fetchAhead();
  }

  // How wide and high pixels are shown whose size is not known, but their shape is (PS3.3 C.7.6.3.1.7: height, width).
  aspectRatio() {
    const elements = elementsOf(this.told, ...this.frame());
    const [height, width] = (elements["00280034"]?.Value ?? []).map(Number);
    const isSized = elements["00280030"]?.Value || elements["00181164"]?.Value;
    return !isSized && height > 0 && width > 0 && height / width >= 0.05 && height / width <= 20 ? [width, height] : [1, 1];
  }

  close() {
    this.closed = true;
    for (const { name } of this.ports) this.engine.disableElement(name);
  }

  async show(index) {
    this.wanted = index;
    const usable = await this.ensure(index);
    // Another one was asked for meanwhile.
    if (this.wanted !== index || this.closed) return;
    this.index = index;
    const { viewport } = this.ports[0];
    if (usable) {
      if (viewport.getImageIds?.()[index] === this.imageIds[index]) {
        await viewport.setImageIdIndex(index);
      } else {
        const before = viewport.getImageIds?.().length ? viewport.getViewPresentation() : null;
        await viewport.setStack([...this.imageIds], index);
        if (before) viewport.setViewPresentation(before);
      }
      viewport.render();
    }
    this.changed();
  }

  // Loads a frame; tells whether there is a picture of it.
  async ensure(index) {
    if (this.failed.has(index)) return false;
    try {
      await imageLoader.loadAndCacheImage(this.imageIds[index], this.options);
      return true;
    } catch {
      const drawn = nameFrame(this.told, this.display.frames[index], true);
      try {
        await imageLoader.loadAndCacheImage(drawn, this.options);
        this.imageIds[index] = drawn;
        this.replaced.add(index);
        return true;
      } catch (error) {
        this.failed.set(index, error?.error?.message ?? error?.message ?? words("The frame could not be loaded."));
        return false;
      }
    }
  }

  // The others, the nearest first, as many as fit.
  async fetchAhead() {
    const [at, number] = this.frame();
    const elements = elementsOf(this.told, at, number);
    const size = (tag, otherwise) => elements[tag]?.Value?.[0] || otherwise;
    const bytes = size("00280010", 512) * size("00280011", 512) * size("00280002", 1) * Math.ceil(size("00280100", 16) / 8);
    const start = this.index;
    const order = this.imageIds.map((_, index) => index).sort((a, b) => Math.abs(a - start) - Math.abs(b - start));
    const rest = order.slice(1, Math.max(1, Math.floor(AHEAD_BYTES / bytes)));
    const worker = async () => {
      while (rest.length && !this.closed) await this.ensure(rest.shift());
    };
    this.ahead = rest.length + 1;
    this.changed();
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    if (!this.closed) this.changed();
  }

  hasPixels() {
    return !this.failed.has(this.index);
  }

  slice() {
    return { index: this.wanted, count: this.imageIds.length };
  }

  go(_port, index) {
    this.show(clamp(index, 0, this.imageIds.length - 1));
  }

  nudge(port, by) {
    this.go(port, this.wanted + by);
  }

  frame() {
    return this.display.frames[this.index];
  }

  valueHere() {
    return null;
  }

  image() {
    return this.ports[0].viewport?.getCornerstoneImage?.();
  }

  range() {
    return this.ports[0].viewport.getProperties().voiRange;
  }

  setRange(voiRange) {
    const { viewport } = this.ports[0];
    viewport.setProperties({ voiRange });
    viewport.render();
  }

  sample(most = 40_000) {
    const image = this.image();
    if (!image || image.color) return [];
    const pixels = image.voxelManager?.getScalarData() ?? image.getPixelData();
    const step = Math.max(1, Math.floor(pixels.length / most));
    const values = [];
    for (let at = 0; at < pixels.length; at += step) values.push(Number(pixels[at]));
    return values;
  }
}
