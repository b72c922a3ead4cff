// Three planes through a volume, along the axes of the patient, with a crosshair that links them.
import { add, clamp, reach, toIndex, toPoint } from "./viewer-geometry.js";
import { cache, Enums, nameFrame, openViewports, setVolumesForViewports, volumeLoader } from "./viewer-library.js";
import { words } from "./words.js";

const PLANES = { axial: { axis: 2, across: [0, 1] }, coronal: { axis: 1, across: [0, 2] }, sagittal: { axis: 0, across: [1, 2] } };
const NAMES = { axial: words("Axial"), coronal: words("Coronal"), sagittal: words("Sagittal") };

const REDRAW_MS = 1200;

let made = 0;

export class Planes {
  isVolume = true;
  isOpen = false;
  hasPatient = true;

  constructor(told, display, start, engine, changed) {
    this.told = told;
    this.display = display;
    this.volume = display.volume;
    this.engine = engine;
    this.changed = changed;
    this.imageIds = display.frames.map((frame) => nameFrame(told, frame));
    const taken = this.volume.plane.split(" ").at(-1);
    const names = [taken, ...Object.keys(PLANES).filter((name) => name !== taken)];
    this.ports = names.map((name) => ({ name, label: NAMES[name], ...PLANES[name], ...reach(this.volume, PLANES[name].axis) }));
    const [columns, rows] = this.volume.shape;
    this.point = this.snapped(toPoint(this.volume, [(columns - 1) / 2, (rows - 1) / 2, start]));
  }

  async open() {
    const volumeId = `cornerstoneStreamingImageVolume:${(made += 1)}`;
    this.data = await volumeLoader.createAndCacheVolume(volumeId, { imageIds: this.imageIds });
    // The library would draw all planes for each image that comes; drawing takes longer than loading where there is no graphics card.
    this.data.autoRenderOnLoad = false;
    const start = this.imageIds.indexOf(nameFrame(this.told, this.frame()));
    const nearest = this.imageIds.map((imageId, at) => [Math.abs(at - start), imageId]).sort(([one], [other]) => one - other);
    this.data.getImageIdsToLoad = () => nearest.map(([, imageId]) => imageId);
    // Loading goes on while the graphics are set up.
    this.data.load();
    const { ORTHOGRAPHIC } = Enums.ViewportType;
    openViewports(this.engine, this.ports.map(({ name, screen }) => ({ viewportId: name, element: screen, type: ORTHOGRAPHIC, defaultOptions: { orientation: name, background: [0, 0, 0] } })));
    for (const port of this.ports) port.viewport = this.engine.getViewport(port.name);
    await setVolumesForViewports(this.engine, [{ volumeId }], this.ports.map(({ name }) => name));
    this.place();
    // A first picture without pixels would only take time.
    if (this.hasPixels()) for (const { viewport } of this.ports) viewport.render();
  }

  // Draws what has come: at once when it is the slice in question, else now and then.
  noteLoaded(imageId) {
    const isHere = imageId === nameFrame(this.told, this.frame());
    if (isHere || !this.waiting) this.redraw(isHere ? 0 : REDRAW_MS);
  }

  redraw(delay = 0) {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => {
      this.waiting = 0;
      if (this.isOpen) for (const { viewport } of this.ports) viewport.render();
    }, delay);
  }

  // Tells whether the pixels of the slice in question are here.
  hasPixels() {
    return Boolean(cache.getImage(nameFrame(this.told, this.frame())));
  }

  close() {
    for (const { name } of this.ports) this.engine.disableElement(name);
    clearTimeout(this.waiting);
    this.data?.cancelLoading?.();
  }

  snapped(point) {
    const index = toIndex(this.volume, point).map((value, at) => clamp(this.volume.aligned ? Math.round(value) : value, 0, this.volume.shape[at] - 1));
    if (this.volume.aligned) return toPoint(this.volume, index);
    // Planes at an angle to the slices also cut the corners of the box around the volume.
    const within = [...point];
    for (const { axis, low, high } of this.ports) within[axis] = clamp(within[axis], low, high);
    return within;
  }

  moveTo(point) {
    this.point = this.snapped(point);
    this.apply();
  }

  apply() {
    for (const { viewport } of this.place()) viewport.render();
    this.changed();
  }

  // Puts the planes where the crosshair is; gives those that moved.
  place() {
    return this.ports.filter(({ viewport, axis }) => {
      const { focalPoint, position } = viewport.getCamera();
      const by = this.point[axis] - focalPoint[axis];
      if (Math.abs(by) < 1e-4) return false;
      const shifted = (from) => from.map((value, at) => (at === axis ? value + by : value));
      viewport.setCamera({ focalPoint: shifted(focalPoint), position: shifted(position) });
      return true;
    });
  }

  slice(port) {
    return { index: clamp(Math.round((this.point[port.axis] - port.low) / port.step), 0, port.count - 1), count: port.count };
  }

  go(port, index) {
    const point = [...this.point];
    point[port.axis] = clamp(port.low + index * port.step, port.low, port.high);
    this.moveTo(point);
  }

  // Moves the crosshair within a plane by a voxel to the side.
  nudge(port, by) {
    const [side] = port.across;
    const direction = [0, 0, 0];
    direction[side] = by * this.ports.find(({ axis }) => axis === side).step;
    this.moveTo(add(this.point, direction));
  }

  frame() {
    const [, , slice] = toIndex(this.volume, this.point);
    return this.display.frames[clamp(Math.round(slice), 0, this.display.frames.length - 1)];
  }

  valueHere() {
    const index = toIndex(this.volume, this.point).map(Math.round);
    if (index.some((value, at) => value < 0 || value >= this.volume.shape[at]) || !this.data) return null;
    // The library may have the slices in the other order.
    const own = this.data.imageData?.worldToIndex(this.point).map(Math.round);
    return own && this.isLoaded(own[2]) ? this.data.voxelManager.getAtIJK(...own) : null;
  }

  isLoaded(slice) {
    return Boolean(cache.getImage(this.data.imageIds[slice]));
  }

  range() {
    const { voiRange } = this.ports[0].viewport.getProperties();
    return voiRange;
  }

  setRange(voiRange) {
    for (const { viewport } of this.ports) {
      viewport.setProperties({ voiRange });
      viewport.render();
    }
  }

  // Values spread over the volume, enough to see how they are distributed.
  sample(most = 40_000) {
    const ofSlice = this.volume.shape[0] * this.volume.shape[1];
    const step = Math.max(1, Math.floor((ofSlice * this.volume.shape[2]) / most));
    const values = [];
    for (let at = 0; at < ofSlice * this.volume.shape[2]; at += step) {
      if (this.isLoaded(Math.floor(at / ofSlice))) values.push(Number(this.data.voxelManager.getAtIndex(at)));
    }
    return values;
  }
}
