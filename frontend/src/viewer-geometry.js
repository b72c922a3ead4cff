// Vectors in the coordinates of the patient: mm, x to the left, y to the back, z to the head (PS3.3 C.7.6.2.1.1).
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const add = (a, b, times = 1) => [a[0] + b[0] * times, a[1] + b[1] * times, a[2] + b[2] * times];
export const minus = (a, b) => add(a, b, -1);
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const length = (a) => Math.sqrt(dot(a, a));
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const LETTERS = [["L", "R"], ["P", "A"], ["H", "F"]];

// The letters of a direction, the most fitting first.
export function lettersOf(direction) {
  const size = length(direction);
  if (!size) return "";
  return direction
    .map((part, axis) => ({ share: Math.abs(part) / size, letter: LETTERS[axis][part > 0 ? 0 : 1] }))
    .filter(({ share }) => share > 0.35)
    .sort((a, b) => b.share - a.share)
    .map(({ letter }) => letter)
    .join("");
}

export function toIndex(volume, point) {
  const from = minus(point, volume.origin);
  return [volume.right, volume.down, volume.normal].map((axis, at) => dot(from, axis) / volume.spacing[at]);
}

export function toPoint(volume, index) {
  return [volume.right, volume.down, volume.normal].reduce((point, axis, at) => add(point, axis, index[at] * volume.spacing[at]), volume.origin);
}

// How far a volume reaches along an axis of the patient, and how far apart the planes through it are that one steps through.
export function reach(volume, axis) {
  const ends = volume.shape.map((size) => [0, size - 1]);
  const corners = ends[0].flatMap((i) => ends[1].flatMap((j) => ends[2].map((k) => toPoint(volume, [i, j, k])[axis])));
  const low = Math.min(...corners);
  const high = Math.max(...corners);
  const along = [volume.right, volume.down, volume.normal].findIndex((direction) => Math.abs(direction[axis]) > 0.9);
  const step = volume.aligned && along >= 0 ? volume.spacing[along] : Math.min(...volume.spacing);
  return { low, high, step, count: Math.max(1, Math.round((high - low) / step) + 1) };
}
