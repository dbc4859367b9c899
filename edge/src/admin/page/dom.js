// Elements. Texts go in as text and never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Makes an element. */
export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** Makes an element of a drawing. */
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** Sets a text, if it is another one. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Sets an attribute, or takes it away. */
export function attribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/**
 * Keeps one child for each item, in their order. What stays is changed and not made anew, so that the focus and the place
 * of the page stay too.
 */
export function keep(parent, items, key, make, update) {
  const known = (parent.kept ??= new Map());
  const wanted = new Set();
  let before = null;
  for (const item of items) {
    const name = key(item);
    if (wanted.has(name)) continue;
    wanted.add(name);
    let child = known.get(name);
    if (!child) known.set(name, (child = make(item)));
    const next = before ? before.nextSibling : parent.firstChild;
    if (child !== next) parent.insertBefore(child, next);
    update?.(child, item);
    before = child;
  }
  for (const [name, child] of known) {
    if (wanted.has(name)) continue;
    child.remove();
    known.delete(name);
  }
}

/** Says in a table or box that there is nothing to show, and why. */
export function empty(parent, why) {
  if (parent.dataset.empty === why) return;
  parent.kept?.clear();
  parent.replaceChildren(el(parent.tagName === "TABLE" ? "caption" : "p", { class: "empty" }, why));
  parent.dataset.empty = why;
}

/** Takes away what `empty` said. */
export function filled(parent) {
  if (parent.dataset.empty === undefined) return;
  delete parent.dataset.empty;
  parent.replaceChildren();
}

/**
 * Shows rows. A column has a `title`, a `class`, and a `cell` that returns a text or changes the cell itself.
 */
export function table(parent, columns, items, key) {
  filled(parent);
  if (!parent.tBodies.length) {
    const head = columns.map((column) => el("th", { scope: "col", class: column.class }, column.title));
    parent.append(el("thead", null, el("tr", null, head)), el("tbody"));
  }
  const make = () =>
    el("tr", null, columns.map((column, index) => el(index ? "td" : "th", { class: column.class, scope: index ? null : "row" })));
  keep(parent.tBodies[0], items, key, make, (row, item) => {
    columns.forEach((column, index) => {
      const value = column.cell(item, row.cells[index]);
      if (value !== undefined) text(row.cells[index], value);
    });
  });
}
