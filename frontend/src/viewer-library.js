// Cornerstone3D, set up for what this application shows: where frames come from, what is known of them, and the tools.
import { cache, Enums, eventTarget, getRenderingCapabilities, imageLoader, init as initCore, metaData, RenderingEngine, setUseCPURendering, setVolumesForViewports, utilities, volumeLoader } from "@cornerstonejs/core";
import { createImage, init as initLoader, wadors } from "@cornerstonejs/dicom-image-loader";
import { addTool, AngleTool, annotation, EllipticalROITool, Enums as ToolEnums, init as initTools, LengthTool, PanTool, RectangleROITool, ToolGroupManager, WindowLevelTool, ZoomTool } from "@cornerstonejs/tools";
import { addressOf } from "./viewer-early.js";
import { words } from "./words.js";

export { annotation, cache, Enums, eventTarget, imageLoader, metaData, setVolumesForViewports, utilities, volumeLoader };

const TOOLS = { window: WindowLevelTool, pan: PanTool, zoom: ZoomTool, length: LengthTool, angle: AngleTool, rectangle: RectangleROITool, ellipse: EllipticalROITool };
const { MouseBindings, KeyboardBindings } = ToolEnums;
// What works whichever tool is chosen.
const ALWAYS = {
  window: [{ mouseButton: MouseBindings.Primary, modifierKey: KeyboardBindings.Shift }],
  pan: [{ mouseButton: MouseBindings.Auxiliary }],
  zoom: [{ mouseButton: MouseBindings.Secondary }],
};
const DRAWN = "drawn:";
const CACHE_BYTES = 1.5 * 2 ** 30;

export function hasWebGL() {
  return Boolean(getRenderingCapabilities().webgl);
}

// early: frames that were asked for before the library was here, see viewer-early.js.
export function setUp(withWebGL, early) {
  // Frames that cannot be loaded are told of on the page.
  utilities.logger.coreLog.getLogger("utilities", "ProgressiveIterator").setLevel("silent");
  forgiveFailures();
  initCore({ rendering: { useCPURendering: !withWebGL, webGlContextCount: 1 } });
  if (!withWebGL) setUseCPURendering(true);
  cache.setMaxCacheSize(CACHE_BYTES);
  initTools();
  initLoader({ maxWebWorkers: Math.min(4, Math.max(2, Math.floor((navigator.hardwareConcurrency || 2) / 2))) });
  imageLoader.registerImageLoader("drawn", (imageId, options) => ({ promise: loadDrawn(imageId, options) }));
  imageLoader.registerImageLoader("wadors", (imageId, options) => loadEarly(early, imageId, options) ?? wadors.loadImage(imageId, options));
  for (const tool of Object.values(TOOLS)) addTool(tool);
  const styles = annotation.config.style.getDefaultToolStyles();
  annotation.config.style.setDefaultToolStyles({
    ...styles,
    global: { ...styles.global, color: "rgb(255, 212, 121)", colorHighlighted: "rgb(140, 255, 170)", colorSelected: "rgb(140, 255, 170)", textBoxFontFamily: "system-ui, sans-serif", textBoxFontSize: "12px", textBoxColor: "rgb(255, 232, 180)", textBoxColorHighlighted: "rgb(140, 255, 170)", textBoxColorSelected: "rgb(140, 255, 170)", textBoxLinkLineColor: "rgb(255, 212, 121)", lineWidth: "1.5" },
  });
  return new RenderingEngine("viewer");
}

function loadEarly(early, imageId, options) {
  const address = imageId.slice("wadors:".length);
  const asked = early.get(address);
  if (!asked) return null;
  early.delete(address);
  const load = async () => {
    const found = await asked;
    return found ? createImage(imageId, found.bytes, found.syntax, options) : wadors.loadImage(imageId, options).promise;
  };
  return { promise: load() };
}

// The cache of the library leaves a promise behind that nobody can catch, for each frame that could not be loaded.
function forgiveFailures() {
  const failures = new WeakSet();
  eventTarget.addEventListener(Enums.Events.IMAGE_LOAD_FAILED, ({ detail }) => {
    if (detail.error instanceof Object) failures.add(detail.error);
  });
  window.addEventListener("unhandledrejection", (event) => {
    if (event.reason instanceof Object && failures.has(event.reason)) event.preventDefault();
  });
}

// Enable elements to draw into. The library takes them out of the order of the Tab key, in which the pictures belong, and swallows
// every key there; those that belong to the browser must not reach it.
export function openViewports(engine, viewports) {
  engine.setViewports(viewports);
  for (const { element } of viewports) {
    element.tabIndex = 0;
    element.parentElement.addEventListener("keydown", (event) => {
      if (event.key === "Tab" || /^F\d/.test(event.key) || event.ctrlKey || event.metaKey || event.altKey) event.stopPropagation();
    }, { capture: true });
  }
}

// Tools of one group of viewports; the crosshair is no tool of the library.
export function makeTools(name, viewportIds) {
  const group = ToolGroupManager.createToolGroup(name);
  for (const tool of Object.values(TOOLS)) group.addTool(tool.toolName);
  for (const id of viewportIds) group.addViewport(id, "viewer");
  return {
    choose(chosen) {
      for (const [key, tool] of Object.entries(TOOLS)) {
        group.setToolPassive(tool.toolName, { removeAllBindings: true });
        const bindings = [...(ALWAYS[key] ?? []), ...(key === chosen ? [{ mouseButton: MouseBindings.Primary }, { numTouchPoints: 1 }] : [])];
        if (bindings.length) group.setToolActive(tool.toolName, { bindings });
      }
    },
    remove: () => ToolGroupManager.destroyToolGroup(name),
  };
}

// Names a frame for the library, and tells it what is in the header; drawn: as the picture that the server makes of it.
export function nameFrame(told, [at, number], drawn = false) {
  const image = told.images[at];
  const sent = image.how === "sent" && told.root && !drawn;
  const imageId = sent
    ? `wadors:${addressOf(told, image, number)}`
    : `${DRAWN}${location.origin}/batches/${image.batch}/images/${image.id}/frame?n=${number}&v=${image.v}`;
  if (!metaData.get("imagePixelModule", imageId)) wadors.metaDataManager.add(imageId, describe(told, image, number, sent));
  return imageId;
}

export function elementsOf(told, at, number) {
  const image = told.images[at];
  return { ...told.common, ...image.elements, ...(image.of_frames?.[number] ?? {}) };
}

function describe(told, image, number, sent) {
  const elements = { ...told.common, ...image.elements, ...(image.of_frames?.[number] ?? {}) };
  // Each frame is told of on its own.
  delete elements["00280008"];
  elements["00080018"] = { vr: "UI", Value: [image.uid] };
  if (!elements["00080060"]?.Value?.[0]) elements["00080060"] = { vr: "CS", Value: ["OT"] };
  if (!elements["00200052"]?.Value?.[0]) elements["00200052"] = { vr: "UI", Value: ["none"] };
  // A distance on the detector is what there is to measure in projections.
  if (!elements["00280030"]?.Value && elements["00181164"]?.Value) elements["00280030"] = elements["00181164"];
  if (!sent) {
    const drawn = { "00280002": 3, "00280006": 0, "00280100": 8, "00280101": 8, "00280102": 7, "00280103": 0, "00281050": 127.5, "00281051": 255, "00281052": 0, "00281053": 1 };
    for (const [tag, value] of Object.entries(drawn)) elements[tag] = { vr: "US", Value: [value] };
    elements["00280004"] = { vr: "CS", Value: ["RGB"] };
    for (const tag of ["00280106", "00280107", "00280120", "00281054", "00281056", "20500020"]) delete elements[tag];
  }
  return elements;
}

async function loadDrawn(imageId, options) {
  const answer = await fetch(imageId.slice(DRAWN.length));
  if (!answer.ok) {
    const says = answer.headers.get("Content-Type")?.startsWith("text/plain") ? await answer.text() : words("The server could not draw it.");
    throw new Error(says.trim());
  }
  const bitmap = await createImageBitmap(await answer.blob());
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const components = options?.useRGBA ? 4 : 3;
  const pixels = new Uint8Array(width * height * components);
  for (let from = 0, to = 0; from < data.length; from += 4, to += components) {
    for (let part = 0; part < components; part += 1) pixels[to + part] = data[from + part];
  }
  const plane = metaData.get("imagePlaneModule", imageId);
  return {
    imageId, rows: height, columns: width, height, width, minPixelValue: 0, maxPixelValue: 255, slope: 1, intercept: 0,
    windowCenter: 127.5, windowWidth: 255, voiLUTFunction: "LINEAR", color: true, rgba: components === 4, invert: false,
    numberOfComponents: components, photometricInterpretation: "RGB", sizeInBytes: pixels.length, dataType: "Uint8Array",
    rowPixelSpacing: plane.rowPixelSpacing, columnPixelSpacing: plane.columnPixelSpacing, getPixelData: () => pixels, getCanvas: () => canvas,
    voxelManager: utilities.VoxelManager.createImageVoxelManager({ scalarData: pixels, width, height, numberOfComponents: components }),
    imageFrame: { pixelData: pixels },
  };
}
