// Drawings of figures over time, and of shares.

import { el, svg, text } from "./dom.js";

/** Seconds that a chart may show: as few as hold all that is known, or the most. */
const SPANS = [60, 120, 300];
/** Points of a chart, one for each second. */
const POINTS = SPANS.at(-1);
/** Points of a small line. */
export const SMALL = 60;

const EDGE = { top: 8, right: 4, bottom: 18, left: 54 };

/** The next larger round number. */
function round(value) {
  if (!(value > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * unit >= value * 1.02) * unit;
}

function path(points, x, y) {
  let line = "";
  let pen = "M";
  points.forEach((value, index) => {
    if (value === null || value === undefined) {
      pen = "M";
      return;
    }
    line += `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  });
  return line;
}

/** The same down to the ground, for each part without gaps. */
function area(points, x, y) {
  let drawn = "";
  let from = null;
  points.forEach((value, index) => {
    const gap = value === null || value === undefined;
    if (!gap) {
      drawn += from === null ? `M${x(index)} ${y(0)}L` : "L";
      drawn += `${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
      from ??= index;
    }
    if (from !== null && (gap || index === points.length - 1)) {
      drawn += `L${x(gap ? index - 1 : index)} ${y(0)}Z`;
      from = null;
    }
  });
  return drawn;
}

/**
 * A chart of several lines over the last minutes. `lines` have a `class`, and `area` for those whose ground is filled;
 * `format` writes a value.
 */
export class Chart {
  constructor(parent, { label, lines, format }) {
    Object.assign(this, { parent, label, lines, format, series: lines.map(() => []), times: [], at: null });
    this.drawing = svg("svg", { role: "img", "aria-label": label });
    this.readout = el("p", { class: "readout", hidden: true });
    parent.append(this.drawing, this.readout);
    new ResizeObserver(() => this.draw()).observe(parent);
    parent.addEventListener("pointermove", (event) => this.point(event.offsetX));
    parent.addEventListener("pointerleave", () => this.point(null));
  }

  add(time, values) {
    this.times.push(time);
    values.forEach((value, index) => this.series[index].push(value));
    if (this.times.length > POINTS) [this.times, ...this.series].forEach((all) => all.shift());
    this.draw();
  }

  point(x) {
    this.at = x;
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.parent;
    if (!width || !height || !this.times.length) return;
    const inner = { width: width - EDGE.left - EDGE.right, height: height - EDGE.top - EDGE.bottom };
    const top = round(Math.max(0, ...this.series.flat().filter((value) => value !== null)));
    const span = SPANS.find((points) => points >= this.times.length) ?? POINTS;
    const shift = span - this.times.length;
    const x = (index) => EDGE.left + (inner.width * (index + shift)) / (span - 1);
    const y = (value) => EDGE.top + inner.height * (1 - Math.min(value, top) / top);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const height = y(top * share);
      parts.push(svg("line", { class: "rule", x1: EDGE.left, x2: width - EDGE.right, y1: height, y2: height }));
      parts.push(svg("text", { class: "axis", x: EDGE.left - 8, y: height + 4, "text-anchor": "end" }, share ? this.format(top * share).replace(/\.0+(?= |$)/, "") : "0"));
    }
    for (const part of [0.25, 0.5, 0.75]) {
      const at = EDGE.left + inner.width * (1 - part);
      const seconds = part * span;
      const ago = seconds < 120 ? `−${seconds} s` : `−${seconds / 60} min`;
      parts.push(svg("text", { class: "axis", x: at, y: height - 3, "text-anchor": "middle" }, ago));
    }
    this.lines.forEach((line, index) => {
      const points = this.series[index];
      if (line.area) parts.push(svg("path", { class: `area ${line.class}`, d: area(points, x, y) }));
      parts.push(svg("path", { class: `line ${line.class}`, d: path(points, x, y) }));
    });
    this.read(parts, { x, y, shift, span, inner, height });
    this.drawing.replaceChildren(...parts);
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const last = this.lines.map((line, index) => `${line.name} ${this.format(this.series[index].at(-1))}`);
    this.drawing.setAttribute("aria-label", `${this.label}: ${last.join(", ")}`);
  }

  /** Tells the values below the pointer. */
  read(parts, { x, y, shift, span, inner, height }) {
    const wanted = this.at === null ? -1 : Math.round(((this.at - EDGE.left) / inner.width) * (span - 1)) - shift;
    this.readout.hidden = !(wanted >= 0 && wanted < this.times.length);
    if (this.readout.hidden) return;
    parts.push(svg("line", { class: "cursor", x1: x(wanted), x2: x(wanted), y1: EDGE.top, y2: height - EDGE.bottom }));
    const values = this.lines.map((line, index) => {
      const value = this.series[index][wanted];
      if (value !== null) parts.push(svg("circle", { class: `spot ${line.class}`, cx: x(wanted), cy: y(value), r: 3 }));
      return `${line.name} ${this.format(value)}`;
    });
    const time = new Date(this.times[wanted]).toLocaleTimeString("en-GB");
    text(this.readout, `${time}   ${values.join("   ")}`);
  }
}

/** A small line without axes. */
export function spark(parent, values, kind) {
  const [width, height] = [100, 24];
  const top = Math.max(...values.filter((value) => value !== null), 1e-9);
  // A line that has just begun fills half of its place.
  const points = Math.min(SMALL, Math.max(20, values.length));
  const shift = points - values.length;
  const x = (index) => (width * (index + shift)) / (points - 1);
  const y = (value) => height - 1.5 - (height - 3) * (value / top);
  let drawing = parent.querySelector("svg.spark");
  if (!drawing) {
    const attributes = { class: `spark ${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" };
    drawing = svg("svg", attributes, svg("path", { class: "area" }), svg("path", { class: "line" }));
    parent.append(drawing);
  }
  drawing.firstChild.setAttribute("d", area(values, x, y));
  drawing.lastChild.setAttribute("d", path(values, x, y));
}

/** A cell with a figure and a bar. */
export function meter(cell, figure, share, options) {
  if (!cell.firstChild) cell.append(el("div", { class: "meter" }, el("span")));
  text(cell.firstChild.firstChild, figure);
  bar(cell.firstChild, share, options);
}

/** A bar: a share of 1, with a mark at what it should be if that is known. */
export function bar(parent, share, { mark = null, kind = "accent", label = "" } = {}) {
  let drawing = parent.querySelector("svg.bar");
  if (!drawing) {
    drawing = svg("svg", { viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img" },
      svg("rect", { class: "ground", width: 100, height: 8 }), svg("rect", { class: "part", height: 8 }),
      svg("rect", { class: "mark", width: 1, height: 8 }));
    parent.append(drawing);
  }
  drawing.setAttribute("class", `bar ${kind}`);
  drawing.setAttribute("aria-label", label);
  drawing.children[1].setAttribute("width", Math.max(0, Math.min(1, share || 0)) * 100);
  drawing.children[2].setAttribute("x", mark === null ? -10 : Math.min(99, mark * 100));
}

/** One bar of several parts: `[class, number]` each. */
export function stack(parent, parts, label) {
  const all = parts.reduce((sum, [, n]) => sum + n, 0) || 1;
  let at = 0;
  const rects = parts.map(([kind, n]) => {
    const width = (100 * n) / all;
    const rect = svg("rect", { class: kind, x: at, width, height: 8 });
    at += width;
    return rect;
  });
  const drawing = svg("svg", { class: "bar stack", viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label }, rects);
  parent.querySelector("svg.stack")?.remove();
  parent.append(drawing);
}
