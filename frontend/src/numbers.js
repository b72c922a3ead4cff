// How numbers are written, as the filters of the templates write them.

import { decimal } from "./words.js";

export function size(octets) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let value = octets;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 9.95 ? decimal(value, 1) : Math.round(value)} ${units[unit]}`;
}
