// Boxes as [x1, y1, x2, y2] in pixels: what `geometry` does in Python.

/** Cut off what lies outside a photo of this size. */
export const clip = ([x1, y1, x2, y2], width, height) => [
  Math.min(Math.max(x1, 0), width),
  Math.min(Math.max(y1, 0), height),
  Math.min(Math.max(x2, 0), width),
  Math.min(Math.max(y2, 0), height),
];

/** Widen every side by this part of the box's own width and height. */
export function pad([x1, y1, x2, y2], part) {
  const [x, y] = center([x1, y1, x2, y2]);
  const halfWidth = (x2 - x1) / 2 + (x2 - x1) * part;
  const halfHeight = (y2 - y1) / 2 + (y2 - y1) * part;
  return [x - halfWidth, y - halfHeight, x + halfWidth, y + halfHeight];
}

export const scale = ([x1, y1, x2, y2], sx, sy) => [x1 * sx, y1 * sy, x2 * sx, y2 * sy];
export const shift = ([x1, y1, x2, y2], dx, dy) => [x1 + dx, y1 + dy, x2 + dx, y2 + dy];
export const center = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];
export const area = ([x1, y1, x2, y2]) => Math.max(x2 - x1, 0) * Math.max(y2 - y1, 0);
