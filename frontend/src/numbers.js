// How numbers are written, as the filters of the templates write them.

export const counted = new Intl.NumberFormat("en");

export function size(octets) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = octets;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export function plural(number, word) {
  return `${counted.format(number)} ${word}${number === 1 ? "" : "s"}`;
}
