// The viewer's page: toolbar, keys, texts and what is said; ``Planes`` and ``Stack`` show the pixels.
import { fitPicture } from "./viewer-early.js";
import { dot, length, lettersOf, minus } from "./viewer-geometry.js";
import { annotation, elementsOf, Enums, eventTarget, hasWebGL, makeTools, setUp } from "./viewer-library.js";
import { Planes } from "./viewer-planes.js";
import { Stack } from "./viewer-stack.js";
import { Structures } from "./viewer-structures.js";
import { plural, words } from "./words.js";

const SLICES = {
  axial: (count) => plural("%(n)s axial slice", "%(n)s axial slices", count),
  coronal: (count) => plural("%(n)s coronal slice", "%(n)s coronal slices", count),
  sagittal: (count) => plural("%(n)s sagittal slice", "%(n)s sagittal slices", count),
  "oblique axial": (count) => plural("%(n)s oblique axial slice", "%(n)s oblique axial slices", count),
  "oblique coronal": (count) => plural("%(n)s oblique coronal slice", "%(n)s oblique coronal slices", count),
  "oblique sagittal": (count) => plural("%(n)s oblique sagittal slice", "%(n)s oblique sagittal slices", count),
};
const CT = [
  ["Brain", 40, 80, words("Brain")], ["Subdural", 75, 215, words("Subdural")], ["Bone", 500, 2000, words("Bone")], ["Lung", -600, 1500, words("Lung")],
  ["Mediastinum", 50, 350, words("Mediastinum")], ["Abdomen", 50, 400, words("Abdomen")], ["Liver", 60, 160, words("Liver")], ["Vessels", 300, 600, words("Vessels")],
];
const FOLLOW_MS = 300;
const SPEAK_MS = 500;
// How far a finger or the mouse is dragged for one slice.
const DRAG_PIXELS = 9;
const TOOL_KEYS = { n: "scroll", c: "crosshair", w: "window", p: "pan", z: "zoom", l: "length", a: "angle", r: "rectangle", e: "ellipse" };
const ACT_KEYS = { i: "invert", o: "rotate", h: "flip-h", v: "flip-v", 0: "reset", t: "overlay", s: "snapshot", f: "full", "?": "help", " ": "play", 3: "planes", 1: "stack", m: "solo", "[": "window-before", "]": "window-after", d: "structures" };

export async function open(root, told, early) {
  if (!told.displays.length) throw new Error(words("the series has no pictures"));
  const cpu = !hasWebGL();
  const page = new Page(root, told, setUp(!cpu, early), cpu);
  await page.show(...told.start);
}

class Page {
  constructor(root, told, engine, cpu) {
    Object.assign(this, { root, told, engine, cpu, tool: "", overlay: true, shown: null, loaded: new Set(), active: null, preset: "stored" });
    this.part = (name) => root.querySelector(`[data-${name}]`);
    this.timers = {};
    this.structures = new Structures(root, told, () => this.drawAll());
    this.listen();
  }

  later(name, milliseconds, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, milliseconds);
  }

  // Shows a display from a frame on; as a stack where that is asked for, or where there is no other way.
  async show(number, start, asStack = false) {
    const display = this.told.displays[number];
    this.stop();
    this.tools?.remove();
    annotation.state.removeAllAnnotations();
    this.shown?.close();
    this.number = number;
    this.loaded.clear();
    this.root.dataset.state = "loading";
    const planes = Boolean(display.volume) && !asStack && !this.cpu;
    const changed = () => this.changed();
    this.shown = planes ? new Planes(this.told, display, start, this.engine, changed) : new Stack(this.told, display, start, this.engine, changed, { cpu: this.cpu });
    const shown = this.shown;
    this.wanted = new Set(shown.imageIds);
    this.root.dataset.mode = planes ? "volume" : "stack";
    this.makePorts();
    this.tellWhatIsShown(display, planes);
    try {
      await shown.open();
      shown.isOpen = true;
    } catch (error) {
      if (!planes) throw error;
      // A volume that the library refuses is still a stack.
      await this.show(number, start, true);
      this.tellReason(words("The planes could not be made (%(error)s).", { error: error.message }));
      return;
    }
    if (shown !== this.shown) return;
    this.tools = makeTools(`tools-${number}-${planes ? "planes" : "stack"}`, shown.ports.map(({ name }) => name));
    const isTouched = window.matchMedia("(pointer: coarse)").matches && display.frames.length > 1;
    this.chooseTool(planes ? "crosshair" : isTouched ? "scroll" : "window");
    this.stored = shown.range() && { ...shown.range() };
    this.fillWindows();
    this.changed();
    this.progress();
  }

  makePorts() {
    const ports = this.part("ports");
    const template = this.root.querySelector("template[data-port]");
    const picture = !this.wasShown ? ports.querySelector(".viewer-first") : null;
    this.wasShown = true;
    ports.replaceChildren();
    ports.classList.remove("solo");
    ports.dataset.count = this.shown.ports.length;
    for (const port of this.shown.ports) {
      const made = template.content.firstElementChild.cloneNode(true);
      made.dataset.plane = port.name;
      port.root = made;
      port.screen = made.querySelector(".viewer-screen");
      port.slider = made.querySelector(".viewer-slider");
      port.screen.setAttribute("aria-label", words("%(plane)s: picture", { plane: port.label }));
      port.slider.setAttribute("aria-label", words("%(plane)s: slice", { plane: port.label }));
      ports.append(made);
      this.watch(port);
    }
    this.root.hidden = false;
    this.keepPicture(picture);
    this.active = this.shown.ports[0];
    this.markActive();
  }

  // What the server drew stays to be seen until there is something else, where it is the same.
  keepPicture(picture) {
    const box = document.querySelector("[data-viewer-picture]");
    if (box) box.hidden = true;
    this.first?.remove();
    this.first = picture;
    if (!picture) return;
    this.shown.ports[0].root.append(picture);
    fitPicture(picture);
  }

  watch(port) {
    const { screen, slider } = port;
    const events = Enums.Events;
    screen.addEventListener(events.CAMERA_MODIFIED, () => this.draw(port));
    screen.addEventListener(events.IMAGE_RENDERED, () => {
      this.draw(port);
      this.noteDrawn();
    });
    screen.addEventListener(events.VOI_MODIFIED, ({ detail }) => this.follow(port, detail.range));
    screen.addEventListener("contextmenu", (event) => event.preventDefault());
    screen.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.activate(port);
      const { index } = this.shown.slice(port);
      this.shown.go(port, index + Math.sign(event.deltaY));
    }, { passive: false });
    screen.addEventListener("focus", () => this.activate(port));
    screen.addEventListener("dblclick", () => this.solo(port));
    screen.addEventListener("pointerdown", (event) => {
      this.activate(port);
      screen.focus({ preventScroll: true });
      if (this.pinch(port, event)) return;
      if (this.tool === "scroll" && event.button === 0 && !event.shiftKey) this.dragSlices(port, event);
      if (this.tool === "crosshair" && event.button === 0 && !event.shiftKey && !event.ctrlKey && !event.altKey) this.dragCrosshair(port, event);
    }, { capture: true });
    slider.addEventListener("input", () => {
      this.activate(port);
      this.shown.go(port, Number(slider.value) - 1);
    });
    new ResizeObserver(() => {
      const { clientWidth: width, clientHeight: height } = screen;
      const isOther = port.width !== undefined && (port.width !== width || port.height !== height);
      Object.assign(port, { width, height });
      if (isOther) this.later("size", 30, () => this.resize());
      else this.draw(port);
    }).observe(screen);
  }

  dragCrosshair(port, event) {
    const { screen } = port;
    const move = ({ clientX, clientY }) => {
      const box = screen.getBoundingClientRect();
      this.shown.moveTo(port.viewport.canvasToWorld([clientX - box.left, clientY - box.top]));
    };
    move(event);
    this.drag(port, event, move);
  }

  dragSlices(port, event) {
    const from = this.shown.slice(port).index;
    this.drag(port, event, ({ clientY }) => {
      const { index, count } = this.shown.slice(port);
      const wanted = Math.min(Math.max(from + Math.round((clientY - event.clientY) / DRAG_PIXELS), 0), count - 1);
      if (wanted !== index) this.shown.go(port, wanted);
    });
  }

  // Follows one pointer until it is lifted, or a second finger begins something else.
  drag(port, event, move) {
    event.preventDefault();
    const { screen } = port;
    screen.setPointerCapture(event.pointerId);
    const follow = (next) => next.pointerId === event.pointerId && move(next);
    screen.addEventListener("pointermove", follow);
    const end = () => screen.removeEventListener("pointermove", follow);
    port.endDrag = end;
    screen.addEventListener("pointerup", end, { once: true });
    screen.addEventListener("pointercancel", end, { once: true });
  }

  // Two fingers enlarge and move the picture; tells whether there are two.
  pinch(port, event) {
    if (event.pointerType !== "touch") return false;
    const { screen } = port;
    const fingers = (port.fingers ??= new Map());
    const box = screen.getBoundingClientRect();
    const place = ({ clientX, clientY }) => [clientX - box.left, clientY - box.top];
    fingers.set(event.pointerId, place(event));
    const follow = (next) => {
      if (next.pointerId !== event.pointerId) return;
      const before = spanOf(fingers);
      fingers.set(next.pointerId, place(next));
      if (before && fingers.size === 2) this.enlargeAt(port, before, spanOf(fingers));
    };
    const end = (next) => {
      if (next.pointerId !== event.pointerId) return;
      fingers.delete(event.pointerId);
      for (const [name, listener] of [["pointermove", follow], ["pointerup", end], ["pointercancel", end]]) window.removeEventListener(name, listener);
    };
    for (const [name, listener] of [["pointermove", follow], ["pointerup", end], ["pointercancel", end]]) window.addEventListener(name, listener);
    if (fingers.size > 1) port.endDrag?.();
    return fingers.size > 1;
  }

  // What was between the fingers stays there.
  enlargeAt({ viewport }, before, after) {
    if (!before.size || !after.size) return;
    const held = viewport.canvasToWorld(before.middle);
    viewport.setZoom(viewport.getZoom() * (after.size / before.size));
    const [x, y] = viewport.worldToCanvas(held);
    const [panX, panY] = viewport.getPan();
    viewport.setPan([panX + after.middle[0] - x, panY + after.middle[1] - y]);
    viewport.render();
  }

  resize() {
    if (this.shown?.isOpen) {
      this.engine.resize(true, true);
      this.changed();
    }
  }

  activate(port) {
    if (this.active === port) return;
    this.active = port;
    this.markActive();
    this.speak();
  }

  markActive() {
    for (const port of this.shown.ports) port.root.classList.toggle("active", port === this.active && this.shown.ports.length > 1);
  }

  // One window for all planes.
  follow(port, range) {
    if (this.following || !this.shown.isOpen || !range || !this.shown.isVolume) return;
    this.following = true;
    for (const other of this.shown.ports) {
      if (other === port || !other.viewport) continue;
      const { voiRange } = other.viewport.getProperties();
      if (voiRange && Math.abs(voiRange.lower - range.lower) < 1e-6 && Math.abs(voiRange.upper - range.upper) < 1e-6) continue;
      other.viewport.setProperties({ voiRange: range });
      other.viewport.render();
    }
    this.following = false;
  }

  // What depends on where one is: texts, sliders, letters, lines, and what is told of it.
  changed() {
    const { shown } = this;
    if (!shown?.isOpen) return;
    for (const port of shown.ports) this.draw(port);
    const [at, number] = shown.frame();
    const image = this.told.images[at];
    const where = this.part("where");
    if (shown.point) {
      const value = shown.valueHere();
      const unit = this.unit();
      where.textContent = `x ${tidy(shown.point[0])}  y ${tidy(shown.point[1])}  z ${tidy(shown.point[2])} mm${value === null ? "" : `  ·  ${tidy(value)}${unit}`}`;
      this.root.dataset.crosshair = shown.point.map((part) => part.toFixed(3)).join(" ");
      this.root.dataset.value = value ?? "";
    } else {
      where.textContent = "";
      delete this.root.dataset.crosshair;
      delete this.root.dataset.value;
    }
    this.root.dataset.image = image.id;
    const link = this.part("instance");
    link.href = `/batches/${image.batch}/images/${image.id}`;
    link.textContent = image.number === null ? words("Image %(id)s", { id: image.id }) : words("Instance %(number)s", { number: image.number });
    if (image.frames > 1) link.textContent += `, ${words("frame %(number)s", { number })}`;
    this.later("fields", FOLLOW_MS, () => this.followFields(image));
    this.later("speak", SPEAK_MS, () => this.speak());
  }

  unit() {
    const elements = elementsOf(this.told, ...this.shown.frame());
    return elements["00080060"]?.Value?.[0] === "CT" ? " HU" : "";
  }

  drawAll() {
    if (this.shown) for (const port of this.shown.ports) this.draw(port);
  }

  // Many things ask for the texts and lines of a plane to be drawn; it is done once before the browser paints.
  draw(port) {
    port.toDraw ??= requestAnimationFrame(() => {
      port.toDraw = null;
      if (this.shown.isOpen && this.shown.ports.includes(port)) this.drawNow(port);
    });
  }

  drawNow(port) {
    const { viewport, root, slider, width, height } = port;
    const { index, count } = this.shown.slice(port);
    slider.max = count;
    slider.value = index + 1;
    slider.hidden = count < 2;
    slider.setAttribute("aria-valuetext", words("%(number)s of %(all)s", { number: index + 1, all: count }));
    root.dataset.index = index + 1;
    root.dataset.slices = count;
    if (!width || !height) return;
    const center = viewport.canvasToWorld([width / 2, height / 2]);
    const right = minus(viewport.canvasToWorld([width / 2 + 1, height / 2]), center);
    const down = minus(viewport.canvasToWorld([width / 2, height / 2 + 1]), center);
    this.drawLetters(root, right, down);
    Object.assign(root.dataset, { center: spaced(center), right: spaced(right), down: spaced(down) });
    if (this.shown.point) this.drawLines(port, width, height);
    else root.querySelector(".lines").replaceChildren();
    this.structures.draw(port, this.shown.hasPatient);
    this.drawTexts(port, index, count, length(right));
    this.tellTrouble(port, index);
  }

  drawLetters(root, right, down) {
    const back = (direction) => direction.map((part) => -part);
    const letters = this.shown.hasPatient ? { right: lettersOf(right), left: lettersOf(back(right)), bottom: lettersOf(down), top: lettersOf(back(down)) } : {};
    for (const place of root.querySelectorAll(".viewer-letter")) place.textContent = letters[place.dataset.side] ?? "";
  }

  // Where the two other planes cut this one.
  drawLines(port, width, height) {
    const lines = port.root.querySelector(".lines");
    const reach = 10_000;
    const gap = 9;
    const [x, y] = port.viewport.worldToCanvas(this.shown.point);
    const made = port.across.map((axis) => {
      // The plane perpendicular to ``axis`` is seen as a line along the other direction.
      const along = [0, 0, 0];
      along[port.across.find((one) => one !== axis)] = 1;
      const [toX, toY] = port.viewport.worldToCanvas(this.shown.point.map((part, at) => part + along[at]));
      const size = Math.hypot(toX - x, toY - y) || 1;
      const [dx, dy] = [(toX - x) / size, (toY - y) / size];
      return [1, -1].map((way) => {
        const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
        const plane = this.shown.ports.find((other) => other.axis === axis).name;
        for (const [name, value] of Object.entries({ x1: x + way * dx * gap, y1: y + way * dy * gap, x2: x + way * dx * reach, y2: y + way * dy * reach, class: `line-${plane}` })) line.setAttribute(name, value);
        return line;
      });
    });
    const svg = lines.ownerSVGElement;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    lines.replaceChildren(...made.flat());
    Object.assign(port.root.dataset, { crossX: x.toFixed(1), crossY: y.toFixed(1) });
  }

  drawTexts(port, index, count, scale) {
    const { about } = this.told;
    const place = (corner, ...texts) => {
      const box = port.root.querySelector(`[data-corner=${corner}]`);
      const told = texts.filter(Boolean);
      if (box.dataset.told === told.join("\n")) return;
      box.dataset.told = told.join("\n");
      box.replaceChildren(...told.map((text) => Object.assign(document.createElement("div"), { textContent: text })));
    };
    const first = port === this.shown.ports[0];
    place("tl", ...(first ? [about.patient, about.patient_id, about.birth_date && words("born %(date)s", { date: about.birth_date })] : [port.label]));
    place("tr", ...(first ? [about.study, about.study_date, [about.series_number, about.series].filter(Boolean).join(" "), this.shown.isVolume ? port.label : ""] : []));
    const [at, number] = this.shown.frame();
    const elements = elementsOf(this.told, at, number);
    const thickness = elements["00180050"]?.Value?.[0];
    place("bl", count > 1 ? `${index + 1} / ${count}` : "", this.shown.point ? `${"xyz"[port.axis]} ${tidy(this.shown.point[port.axis])} mm` : "", first && thickness ? words("thickness %(size)s mm", { size: tidy(thickness) }) : "");
    const range = port.viewport.getProperties?.()?.voiRange;
    const isColour = this.shown.image?.()?.color;
    const zoom = port.fit ? Math.round((port.fit / scale) * 100) : 100;
    port.fit ??= scale;
    place("br", range && !isColour ? `W ${tidy(range.upper - range.lower + 1)}  L ${tidy((range.upper + range.lower + 1) / 2)}` : "", `${zoom} %`);
    if (range) port.root.dataset.window = `${tidy(range.lower)} ${tidy(range.upper)}`;
  }

  tellTrouble(port, index) {
    const box = port.root.querySelector(".viewer-trouble");
    const failed = this.shown.failed?.get(index);
    const text = failed ? `${words("This frame cannot be shown.")} ${failed}` : "";
    box.hidden = !text;
    if (box.textContent !== text) box.textContent = text;
    port.root.classList.toggle("failed", Boolean(text));
    port.root.dataset.drawn = Boolean(this.shown.replaced?.has(index));
  }

  tellWhatIsShown(display, planes) {
    const choice = this.part("choice");
    const { displays } = this.told;
    choice.replaceChildren(...displays.map((one, at) => new Option(nameOf(this.told, one), at, at === this.number, at === this.number)));
    this.only("choice", displays.length > 1);
    this.only("volume", Boolean(display.volume) && !this.cpu);
    this.only("film", display.frames.length > 1);
    this.press("planes", planes);
    this.press("stack", !planes);
    this.root.querySelector("[data-tool=crosshair]").hidden = !planes;
    this.root.querySelector("[data-tool=scroll]").hidden = display.frames.length < 2;
    const rate = rateOf(elementsOf(this.told, ...display.frames[0]));
    if (rate) this.part("rate").value = rate;
    const reasons = [];
    if (display.reason) reasons.push(words("Shown one by one, because these images are no volume: %(reason)s", { reason: display.reason }));
    else if (display.volume && this.cpu) reasons.push(words("Shown one by one, because this browser has no WebGL."));
    if (displays.length > 1 && !display.reason) reasons.push(words("This series falls into %(number)s parts.", { number: displays.length }));
    if (this.told.left_out) reasons.push(plural("The series has %(n)s more image, which is not shown here.", "The series has %(n)s more images, which are not shown here.", this.told.left_out));
    this.tellReason(reasons.join(" "));
    // What belongs to the kind of image is said more quietly than what is wrong with a series.
    this.part("reason").classList.toggle("quiet", ["", "colour", "no-geometry", "one-image"].includes(display.code));
  }

  tellReason(text) {
    const box = this.part("reason");
    box.textContent = text;
    box.hidden = !text;
  }

  only(name, is) {
    for (const part of this.root.querySelectorAll(`[data-only=${name}]`)) part.hidden = !is;
  }

  press(name, is) {
    this.root.querySelector(`[data-act=${name}]`)?.setAttribute("aria-pressed", String(is));
  }

  progress() {
    const wanted = this.shown.ahead ?? this.wanted.size;
    const loaded = this.shown.isVolume ? this.loaded.size : Math.min(this.loaded.size + this.shown.failed.size, wanted);
    const box = this.part("progress");
    box.querySelector("progress").value = wanted ? loaded / wanted : 1;
    box.querySelector("span").textContent = words("%(number)s of %(all)s", { number: loaded, all: wanted });
    box.hidden = loaded >= wanted;
    this.root.dataset.loaded = loaded;
    this.root.dataset.total = wanted;
    if (loaded < wanted) return;
    // The planes are drawn once more when the last slice has come.
    if (!this.shown.isVolume) this.noteDrawn();
    else if (this.root.dataset.state !== "ready") this.shown.redraw();
  }

  // The state is that of what can be seen: ``showing`` from the first slice on, ``ready`` when all have come.
  noteDrawn() {
    const { dataset } = this.root;
    if (!this.shown.isOpen || !this.shown.hasPixels() || dataset.state === "ready") return;
    if (dataset.state === "loading") {
      dataset.state = "showing";
      this.first?.remove();
      dataset.drawnMs ??= Math.round(performance.now());
      dataset.firstMs ??= dataset.drawnMs;
    }
    if (Number(dataset.loaded) >= Number(dataset.total)) {
      dataset.state = "ready";
      dataset.readyMs ??= Math.round(performance.now());
      this.changed();
    }
  }

  speak() {
    if (!this.active?.viewport) return;
    const { index, count } = this.shown.slice(this.active);
    const text = count > 1 ? words("%(plane)s %(number)s of %(all)s", { plane: this.active.label, number: index + 1, all: count }) : this.active.label;
    const spoken = this.part("spoken");
    if (spoken.textContent !== text) spoken.textContent = text;
  }

  followFields(image) {
    const card = document.getElementById("fields-card");
    if (!card || !window.htmx || card.dataset.image === String(image.id) || this.asked === image.id) return;
    this.asked = image.id;
    window.htmx.ajax("GET", `/batches/${image.batch}/images/${image.id}/fields`, { target: "#fields-card", swap: "outerMorph" });
  }

  // Tools and what is done with the picture.

  chooseTool(name) {
    if (name === "crosshair" && !this.shown.isVolume) return;
    this.tool = name;
    this.tools.choose(name);
    for (const button of this.root.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.part("ports").dataset.pointer = name;
  }

  fillWindows() {
    const modality = elementsOf(this.told, ...this.shown.frame())["00080060"]?.Value?.[0];
    const names = [["stored", words("Window as stored")], ["auto", words("Automatic")], ["full", words("Full range")], ...(modality === "CT" ? CT.map(([name, , , label]) => [name, label]) : [])];
    const select = this.part("window");
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
    select.disabled = Boolean(this.shown.image?.()?.color);
  }

  setWindow(name) {
    const preset = CT.find(([one]) => one === name);
    let range = this.stored;
    if (preset) range = { lower: preset[1] - preset[2] / 2, upper: preset[1] + preset[2] / 2 - 1 };
    else if (name !== "stored") {
      const values = this.shown.sample().filter(Number.isFinite).sort((a, b) => a - b);
      const at = (share) => values[Math.round(share * (values.length - 1))];
      if (values.length) range = name === "full" ? { lower: values[0], upper: values.at(-1) } : { lower: at(0.02), upper: at(0.98) };
    }
    if (range && range.upper > range.lower) this.shown.setRange({ ...range });
    this.part("window").value = name;
    for (const port of this.shown.ports) this.draw(port);
  }

  act(name) {
    const port = this.active;
    const { viewport } = port;
    const turn = (by) => {
      const { rotation = 0 } = viewport.getViewPresentation();
      viewport.setViewPresentation({ ...viewport.getViewPresentation(), rotation: (rotation + by + 360) % 360 });
      viewport.render();
    };
    const flip = (which) => {
      const camera = viewport.getCamera();
      viewport.setCamera({ [which]: !camera[which] });
      viewport.render();
    };
    const acts = {
      planes: () => !this.shown.isVolume && this.told.displays[this.number].volume && !this.cpu && this.show(this.number, this.shown.index),
      stack: () => this.shown.isVolume && this.show(this.number, this.told.displays[this.number].frames.indexOf(this.shown.frame()), true),
      clear: () => this.clear(),
      invert: () => this.invert(),
      rotate: () => turn(90),
      "flip-h": () => flip("flipHorizontal"),
      "flip-v": () => flip("flipVertical"),
      reset: () => this.reset(),
      play: () => (this.timers.film ? this.stop() : this.play()),
      overlay: () => this.toggleOverlay(),
      snapshot: () => this.snapshot(),
      full: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen().catch(() => {})),
      help: () => this.part("help").showModal(),
      solo: () => this.solo(port),
      structures: () => this.structures.toggle(),
      "window-before": () => this.stepWindow(-1),
      "window-after": () => this.stepWindow(1),
    };
    acts[name]?.();
    this.draw(port);
  }

  invert() {
    const now = !this.shown.ports[0].viewport.getProperties().invert;
    for (const { viewport } of this.shown.ports) {
      viewport.setProperties({ invert: now });
      viewport.render();
    }
    this.press("invert", now);
  }

  reset() {
    for (const { viewport } of this.shown.ports) {
      viewport.resetProperties();
      viewport.setViewPresentation({ rotation: 0, flipHorizontal: false, flipVertical: false });
      viewport.resetCamera();
    }
    this.press("invert", false);
    this.shown.apply?.();
    this.setWindow("stored");
    for (const { viewport } of this.shown.ports) viewport.render();
  }

  // Removes the measurement that is chosen, or all of them.
  clear(onlyChosen = false) {
    const chosen = onlyChosen ? annotation.selection.getAnnotationsSelected().filter((uid) => annotation.state.getAnnotation(uid)) : [];
    if (chosen.length) for (const uid of chosen) annotation.state.removeAnnotation(uid);
    else annotation.state.removeAllAnnotations();
    for (const { viewport } of this.shown.ports) viewport.render();
  }

  stepWindow(by) {
    const select = this.part("window");
    const next = (select.selectedIndex + by + select.length) % select.length;
    if (!select.disabled) this.setWindow(select.options[next].value);
  }

  toggleOverlay() {
    this.overlay = !this.overlay;
    this.root.classList.toggle("bare", !this.overlay);
    this.press("overlay", this.overlay);
  }

  solo(port) {
    const ports = this.part("ports");
    if (this.shown.ports.length < 2) return;
    const alone = !ports.classList.contains("solo") || !port.root.classList.contains("large");
    for (const one of this.shown.ports) one.root.classList.toggle("large", alone && one === port);
    ports.classList.toggle("solo", alone);
  }

  play() {
    const rate = Math.min(60, Math.max(1, Number(this.part("rate").value) || 12));
    const next = () => {
      const { index, count } = this.shown.slice(this.active);
      this.shown.go(this.active, (index + 1) % count);
      this.timers.film = setTimeout(next, 1000 / rate);
    };
    this.press("play", true);
    this.root.dataset.playing = "";
    next();
  }

  stop() {
    clearTimeout(this.timers.film);
    this.timers.film = 0;
    this.press("play", false);
    delete this.root.dataset.playing;
  }

  async snapshot() {
    const box = this.part("ports").getBoundingClientRect();
    const scale = window.devicePixelRatio || 1;
    const canvas = Object.assign(document.createElement("canvas"), { width: Math.round(box.width * scale), height: Math.round(box.height * scale) });
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillRect(0, 0, box.width, box.height);
    for (const { root } of this.shown.ports) {
      if (!root.offsetParent) continue;
      for (const layer of root.querySelectorAll("canvas, svg")) {
        const at = layer.getBoundingClientRect();
        if (!at.width || !at.height) continue;
        const picture = layer instanceof SVGElement ? await pictureOf(layer, at) : layer;
        context.drawImage(picture, at.left - box.left, at.top - box.top, at.width, at.height);
      }
      if (this.overlay) writeTexts(context, root, box);
    }
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `image-${this.root.dataset.image}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  listen() {
    const { root } = this;
    root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.tool) this.chooseTool(button.dataset.tool);
      if (button?.dataset.act) this.act(button.dataset.act);
    });
    this.part("window").addEventListener("change", (event) => this.setWindow(event.target.value));
    this.part("choice").addEventListener("change", (event) => this.show(Number(event.target.value), 0));
    this.part("rate").addEventListener("change", () => this.timers.film && (this.stop(), this.play()));
    root.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("fullscreenchange", () => this.press("full", Boolean(document.fullscreenElement)));
    root.querySelector("[data-act=full]").hidden = !document.fullscreenEnabled;
    this.press("overlay", true);
    eventTarget.addEventListener(Enums.Events.IMAGE_LOADED, ({ detail }) => this.noteLoaded(detail.image.imageId));
    eventTarget.addEventListener(Enums.Events.IMAGE_LOAD_FAILED, ({ detail }) => this.noteFailed(detail));
  }

  noteLoaded(imageId) {
    // A frame that the server drew instead counts as the one it stands for.
    if (!this.wanted?.has(imageId) && !imageId.startsWith("drawn:")) return;
    this.loaded.add(imageId);
    this.shown.noteLoaded?.(imageId);
    this.later("progress", 0, () => this.progress());
  }

  noteFailed({ imageId }) {
    if (!this.shown?.isVolume || !this.wanted.has(imageId)) return;
    this.lost = (this.lost ?? new Set()).add(imageId);
    this.tellReason(words("%(lost)s of %(all)s slices could not be loaded, and are missing in the planes. Slice by slice they are drawn by the server.", { lost: this.lost.size, all: this.wanted.size }));
    this.noteLoaded(imageId);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog, select, input[type=number]")) return;
    const onSlider = event.target.matches("input[type=range]");
    const onButton = event.target.closest("button, a, input[type=checkbox]");
    const { shown, active } = this;
    if (!shown || !active?.viewport) return;
    const { index, count } = shown.slice(active);
    const to = { ArrowUp: index - 1, ArrowDown: index + 1, PageUp: index - 10, PageDown: index + 10, Home: 0, End: count - 1 }[event.key];
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (to !== undefined && !onSlider) shown.go(active, Math.min(Math.max(to, 0), count - 1));
    else if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && !onSlider) shown.nudge(active, this.towards(event.key));
    else if (event.key === "Delete" || event.key === "Backspace") this.clear(true);
    else if (event.key === "+" || event.key === "-") this.enlarge(event.key === "+" ? 1.25 : 0.8);
    else if (name === " " && onButton) return;
    else if (TOOL_KEYS[name]) this.chooseTool(TOOL_KEYS[name]);
    else if (ACT_KEYS[name]) this.act(ACT_KEYS[name]);
    else return;
    event.preventDefault();
    // The page has keys of its own.
    event.stopPropagation();
  }

  // The way that looks like the arrow, however the picture is turned.
  towards(key) {
    const way = key === "ArrowRight" ? 1 : -1;
    if (!this.shown.isVolume) return way;
    const { viewport, width, height, across } = this.active;
    const [x, y] = [width / 2, height / 2];
    const right = minus(viewport.canvasToWorld([x + 1, y]), viewport.canvasToWorld([x, y]));
    const axis = [0, 0, 0];
    axis[across[0]] = 1;
    return dot(right, axis) < 0 ? -way : way;
  }

  enlarge(by) {
    const { viewport } = this.active;
    viewport.setZoom(viewport.getZoom() * by);
    viewport.render();
  }
}

// How far two fingers are apart, and what is between them.
function spanOf(fingers) {
  if (fingers.size !== 2) return null;
  const [one, other] = fingers.values();
  return { size: Math.hypot(one[0] - other[0], one[1] - other[1]), middle: [(one[0] + other[0]) / 2, (one[1] + other[1]) / 2] };
}

function nameOf(told, display) {
  const count = display.frames.length;
  const areFrames = told.images[display.frames[0][0]].frames > 1;
  const what = display.volume ? SLICES[display.volume.plane](count) : areFrames ? plural("%(n)s frame", "%(n)s frames", count) : plural("%(n)s image", "%(n)s images", count);
  const kind = display.kind ? `, ${display.kind}` : "";
  return `${what}${kind}${display.volume ? "" : ` (${words("no volume")})`}`;
}

// Frames a second, as the header says: RecommendedDisplayFrameRate, CineRate, or FrameTime in ms.
function rateOf(elements) {
  const first = (tag) => Number(elements[tag]?.Value?.[0]) || 0;
  const rate = first("00082144") || first("00180040") || (first("00181063") && 1000 / first("00181063"));
  return rate ? Math.round(Math.min(60, Math.max(1, rate))) : 0;
}

function tidy(number) {
  const rounded = Math.abs(number) >= 100 ? Math.round(number) : Math.round(number * 10) / 10;
  return String(Object.is(rounded, -0) ? 0 : rounded).replace("-", "−");
}

function spaced(point) {
  return point.map((part) => part.toFixed(4)).join(" ");
}

async function pictureOf(svg, { width, height }) {
  const copy = svg.cloneNode(true);
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const originals = [svg, ...svg.querySelectorAll("*")];
  for (const [at, element] of [copy, ...copy.querySelectorAll("*")].entries()) {
    const style = getComputedStyle(originals[at]);
    for (const name of ["stroke", "stroke-width", "stroke-dasharray", "fill", "opacity", "font", "visibility"]) element.setAttribute(name === "font" ? "data-font" : name, style.getPropertyValue(name));
    element.setAttribute("font-family", style.fontFamily);
    element.setAttribute("font-size", style.fontSize);
  }
  const picture = new Image();
  picture.src = `data:image/svg+xml,${encodeURIComponent(new XMLSerializer().serializeToString(copy))}`;
  await picture.decode();
  return picture;
}

function writeTexts(context, root, box) {
  context.fillStyle = "#e8ebf0";
  for (const line of root.querySelectorAll(".viewer-text > div, .viewer-letter")) {
    const at = line.getBoundingClientRect();
    if (!line.textContent || !at.width) continue;
    const style = getComputedStyle(line);
    context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
    const isRight = style.textAlign === "right" || style.textAlign === "end";
    context.textAlign = isRight ? "right" : "left";
    context.textBaseline = "top";
    context.fillText(line.textContent, (isRight ? at.right : at.left) - box.left, at.top - box.top);
  }
}
