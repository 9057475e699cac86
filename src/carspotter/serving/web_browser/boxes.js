// Boxes as [x1, y1, x2, y2] in pixels, and which of many to keep: what `geometry` does in Python.

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

/** Return the intersection over the union; 0 when both are empty. */
export function iou(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(width, 0) * Math.max(height, 0);
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}

/** Return the places of the boxes to keep of a list that is best first: greedy non-maximum suppression. */
export function suppress(boxes, threshold) {
  const kept = [];
  boxes.forEach((box, index) => {
    if (!kept.some((better) => iou(boxes[better], box) > threshold)) kept.push(index);
  });
  return kept;
}
