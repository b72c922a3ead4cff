// RT structures over the picture: closed contours where their plane is seen, and as cuts where another plane goes through them.
import { add, cross, dot, length, minus } from "./viewer-geometry.js";
import { plural, words } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const TEXTS = {
  none: words("No structures"),
  loading: words("The structures are being fetched …"),
  failed: words("The structures could not be fetched."),
  elsewhere: words("in another frame of reference"),
  empty: words("nothing is drawn of it"),
  leftOut: (count) => plural("%(n)s contour is left out, because there are too many or it cannot be read.", "%(n)s contours are left out, because there are too many or they cannot be read.", count),
};
// Contours whose planes are as close as this are one layer; in mm.
const SAME_LAYER = 0.05;
const PARALLEL = 0.999;
// How thick a layer is when there is no other one, in mm.
const ALONE = 2;
// Where a layer is missing, a structure is not closed over the gap.
const LARGEST_GAP = 1.6;
const COLOURS = ["#ff6b6b", "#4dd0e1", "#ffd54f", "#81c784", "#ba68c8", "#ff8a65", "#90caf9", "#f06292"];

export class Structures {
  constructor(root, told, changed) {
    Object.assign(this, { told, changed, drawn: [] });
    this.box = root.querySelector("[data-structures]");
    this.note = this.box.querySelector("[data-structures-note]");
    this.list = this.box.querySelector("[data-structures-list]");
    this.select = this.box.querySelector("[data-structure-set]");
    this.box.hidden = !told.structure_sets.length;
    if (this.box.hidden) return;
    const name = ({ title, day }) => (day ? `${title}, ${day}` : title);
    this.select.replaceChildren(new Option(TEXTS.none, ""), ...told.structure_sets.map((one) => new Option(name(one), one.id)));
    this.select.addEventListener("change", () => this.choose(this.select.value));
    this.box.addEventListener("click", ({ target }) => {
      const button = target.closest("[data-structures-all]");
      if (button) this.switchAll(button.dataset.structuresAll === "on");
    });
    const wanted = new URLSearchParams(location.search).get("structures");
    if (told.structure_sets.some(({ id }) => String(id) === wanted)) this.choose(wanted);
  }

  async choose(id) {
    this.select.value = id;
    this.chosen = id;
    this.drawn = [];
    this.fill();
    const set = this.told.structure_sets.find((one) => String(one.id) === id);
    if (!set) return;
    this.note.textContent = TEXTS.loading;
    try {
      const answer = await fetch(`${set.address}/contours.json`, { headers: { Accept: "application/json" } });
      if (!answer.ok) throw new Error(TEXTS.failed);
      const found = await answer.json();
      // Another set was chosen meanwhile.
      if (this.chosen !== id) return;
      this.drawn = found.structures.map((structure, at) => prepare(structure, at, this.fits(structure)));
      this.fill();
      this.note.textContent = found.left_out ? TEXTS.leftOut(found.left_out) : "";
    } catch {
      if (this.chosen === id) this.note.textContent = TEXTS.failed;
    }
  }

  // Coordinates mean the same place only within one frame of reference.
  fits(structure) {
    const own = (this.told.common["00200052"] ?? this.told.images[0]?.elements["00200052"])?.Value?.[0];
    return !own || !structure.frame_of_reference || own === structure.frame_of_reference;
  }

  fill() {
    this.note.textContent = "";
    this.box.querySelector("[data-structures-only]").hidden = this.drawn.length < 2;
    this.list.hidden = !this.drawn.length;
    this.list.replaceChildren(...this.drawn.map((structure) => {
      const box = Object.assign(document.createElement("input"), { type: "checkbox", className: "form-check-input", checked: structure.isOn, disabled: !structure.isUsable });
      box.addEventListener("change", () => {
        structure.isOn = box.checked;
        this.changed();
      });
      structure.box = box;
      const swatch = make("svg", { viewBox: "0 0 12 12", width: 12, height: 12, "aria-hidden": "true" });
      swatch.append(make("rect", { width: 12, height: 12, rx: 3, fill: structure.colour }));
      const label = document.createElement("label");
      const name = Object.assign(document.createElement("span"), { className: "name", textContent: structure.name });
      label.append(box, swatch, name);
      if (structure.why) label.append(Object.assign(document.createElement("small"), { className: "text-secondary", textContent: structure.why }));
      const item = document.createElement("li");
      item.append(label);
      return item;
    }));
    this.changed();
  }

  switchAll(isOn) {
    for (const structure of this.drawn) {
      structure.isOn = isOn && structure.isUsable;
      structure.box.checked = structure.isOn;
    }
    this.changed();
  }

  // All off, or on again.
  toggle() {
    if (this.drawn.length) this.switchAll(!this.drawn.some(({ isOn }) => isOn));
  }

  // Draws what is on into the layer of a plane.
  draw(port, hasPatient) {
    const layer = port.root.querySelector(".viewer-outlines");
    const { width, height, viewport } = port;
    const on = hasPatient ? this.drawn.filter(({ isOn }) => isOn) : [];
    layer.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { viewPlaneNormal, focalPoint } = on.length ? viewport.getCamera() : {};
    if (!viewPlaneNormal) {
      if (layer.firstChild) layer.replaceChildren();
      return;
    }
    const view = { normal: viewPlaneNormal, point: focalPoint, toCanvas: (point) => viewport.worldToCanvas(point) };
    layer.replaceChildren(...on.map((structure) => picture(structure, view)));
  }
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function prepare({ name, number, colour, lines }, at, fits) {
  const groups = [];
  const others = [];
  for (const [type, numbers] of lines) {
    const points = [];
    for (let from = 0; from < numbers.length; from += 3) points.push(numbers.slice(from, from + 3));
    const normal = type.startsWith("CLOSED") ? normalOf(points) : null;
    if (!normal) {
      others.push(points);
      continue;
    }
    let group = groups.find((one) => Math.abs(dot(one.normal, normal)) > PARALLEL);
    if (!group) groups.push((group = { normal, layers: [] }));
    const depth = points.reduce((sum, point) => sum + dot(point, group.normal), 0) / points.length;
    group.layers.push({ depth, polygons: [points] });
  }
  for (const group of groups) arrange(group);
  const isUsable = fits && lines.length > 0;
  return {
    name: name || number, groups, others, isUsable, isOn: isUsable, why: fits ? (lines.length ? "" : TEXTS.empty) : TEXTS.elsewhere,
    colour: colour ? `rgb(${colour.join(",")})` : COLOURS[at % COLOURS.length],
  };
}

// Puts what lies in one plane together, the planes in order, each with where it ends.
function arrange(group) {
  const layers = [];
  for (const layer of group.layers.sort((a, b) => a.depth - b.depth)) {
    const last = layers.at(-1);
    if (last && layer.depth - last.depth < SAME_LAYER) last.polygons.push(...layer.polygons);
    else layers.push(layer);
  }
  const steps = layers.slice(1).map(({ depth }, at) => depth - layers[at].depth).sort((a, b) => a - b);
  const thickness = steps.length ? steps[Math.floor((steps.length - 1) / 2)] : ALONE;
  for (const [at, layer] of layers.entries()) {
    const side = (other) => (other && Math.abs(other.depth - layer.depth) <= thickness * LARGEST_GAP ? Math.abs(other.depth - layer.depth) : 0);
    const [below, above] = [side(layers[at - 1]), side(layers[at + 1])];
    Object.assign(layer, { low: layer.depth - (below || thickness) / 2, high: layer.depth + (above || thickness) / 2, joinsBelow: below > 0, joinsAbove: above > 0 });
  }
  Object.assign(group, { layers, thickness });
}

// The normal of a polygon, as Newell takes it; nothing of what has no area.
function normalOf(points) {
  const sum = [0, 0, 0];
  for (const [at, [x, y, z]] of points.entries()) {
    const [nextX, nextY, nextZ] = points[(at + 1) % points.length];
    sum[0] += (y - nextY) * (z + nextZ);
    sum[1] += (z - nextZ) * (x + nextX);
    sum[2] += (x - nextX) * (y + nextY);
  }
  const size = length(sum);
  return size > 1e-6 ? sum.map((part) => part / size) : null;
}

function picture(structure, view) {
  const outline = [];
  const area = [];
  for (const group of structure.groups) {
    if (Math.abs(dot(group.normal, view.normal)) > PARALLEL) drawLayer(group, view, outline, area);
    else drawCuts(group, view, outline, area);
  }
  for (const points of structure.others) drawOpen(points, view, outline);
  const made = make("g", { "data-structure": structure.name });
  if (area.length) made.append(make("path", { d: area.join(""), fill: structure.colour, "fill-opacity": 0.14, "fill-rule": "evenodd", stroke: "none" }));
  if (outline.length) made.append(make("path", { d: outline.join(""), fill: "none", stroke: structure.colour, "stroke-width": 1.5, "stroke-linejoin": "round", "stroke-linecap": "round" }));
  return made;
}

const place = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;

function drawLayer(group, view, outline, area) {
  const depth = dot(view.point, group.normal);
  const layer = group.layers.find(({ low, high }) => low - 1e-3 <= depth && depth < high + 1e-3);
  if (!layer) return;
  const path = layer.polygons.map((points) => `M${points.map((point) => place(view.toCanvas(point))).join("L")}Z`).join("");
  outline.push(path);
  area.push(path);
}

// Layers are joined by straight lines; at its ends, and where a layer has other parts than the next, a structure is as thick as half the way.
function drawCuts(group, view, outline, area) {
  const along = unit(cross(view.normal, group.normal));
  let across = unit(cross(along, view.normal));
  if (dot(across, group.normal) < 0) across = across.map((part) => -part);
  const slope = dot(across, group.normal);
  const depth = dot(view.point, group.normal);
  const origin = view.toCanvas(view.point);
  const step = (direction) => view.toCanvas(add(view.point, direction)).map((part, at) => part - origin[at]);
  const [u, w] = [step(along), step(across)];
  const at = (a, d) => place(origin.map((part, axis) => part + a * u[axis] + ((d - depth) / slope) * w[axis]));
  const line = (d, ends) => {
    for (let from = 0; from + 1 < ends.length; from += 2) if (ends[from] !== ends[from + 1]) outline.push(`M${at(ends[from], d)}L${at(ends[from + 1], d)}`);
  };
  const sides = (ends, low, high) => {
    for (const end of ends) outline.push(`M${at(end, low)}L${at(end, high)}`);
    for (let from = 0; from + 1 < ends.length; from += 2) area.push(`M${at(ends[from], low)}L${at(ends[from + 1], low)}L${at(ends[from + 1], high)}L${at(ends[from], high)}Z`);
  };
  const cuts = group.layers.map(({ polygons }) => polygons.flatMap((points) => cut(points, view, along)).sort((a, b) => a - b));
  for (const [number, layer] of group.layers.entries()) {
    const [ends, next, above] = [cuts[number], cuts[number + 1], group.layers[number + 1]];
    const joined = layer.joinsAbove && areAlike(ends, next);
    if (!layer.joinsBelow) line(layer.low, ends);
    if (!layer.joinsBelow || !areAlike(cuts[number - 1], ends)) sides(ends, layer.low, layer.depth);
    if (!joined) {
      sides(ends, layer.depth, layer.high);
      // Between two layers there is a line where one is and the other is not.
      line(layer.high, layer.joinsAbove ? [...ends, ...next].sort((a, b) => a - b) : ends);
      continue;
    }
    for (const [place, end] of ends.entries()) outline.push(`M${at(end, layer.depth)}L${at(next[place], above.depth)}`);
    for (let from = 0; from + 1 < ends.length; from += 2) {
      area.push(`M${at(ends[from], layer.depth)}L${at(ends[from + 1], layer.depth)}L${at(next[from + 1], above.depth)}L${at(next[from], above.depth)}Z`);
    }
  }
}

// Tells whether each part of a layer goes on in the next one.
function areAlike(ends, next) {
  if (!ends.length || ends.length !== next.length) return false;
  for (let from = 0; from + 1 < ends.length; from += 2) if (ends[from] > next[from + 1] || next[from] > ends[from + 1]) return false;
  return true;
}

// Where the sides of a polygon go through the plane that is seen, along the line that both planes have in common.
function cut(points, view, along) {
  const ends = [];
  let last = points.at(-1);
  let before = dot(minus(last, view.point), view.normal);
  for (const point of points) {
    const now = dot(minus(point, view.point), view.normal);
    if (before < 0 !== now < 0) {
      const share = before / (before - now);
      ends.push(dot(minus(last.map((part, axis) => part + share * (point[axis] - part)), view.point), along));
    }
    [last, before] = [point, now];
  }
  return ends;
}

// Points and open lines: what of them is near the plane that is seen.
function drawOpen(points, view, outline) {
  const near = (point) => Math.abs(dot(minus(point, view.point), view.normal)) <= ALONE / 2;
  for (const [at, point] of points.entries()) {
    if (!near(point)) continue;
    const [x, y] = view.toCanvas(point);
    const next = points[at + 1];
    if (next && near(next)) outline.push(`M${place([x, y])}L${place(view.toCanvas(next))}`);
    else if (points.length === 1) outline.push(`M${place([x - 5, y])}L${place([x + 5, y])}M${place([x, y - 5])}L${place([x, y + 5])}`);
  }
}

function unit(direction) {
  const size = length(direction) || 1;
  return direction.map((part) => part / size);
}
