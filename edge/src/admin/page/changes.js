// Reloads with what they have changed, and the logs.

import { byId, el, empty, filled, keep, text } from "./dom.js";
import { clock, count, duration } from "./figures.js";

/** Lines of the log that are kept on the page. */
const KEPT = 500;

function difference(diff) {
  if (!diff) return el("p", { class: "hint" }, "The effective configuration is the same as before.");
  const kind = (line) => (line.startsWith("@@") ? "at" : line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : null);
  const lines = diff.replace(/\n$/, "").split("\n");
  return el("pre", { class: "diff", tabindex: 0, "aria-label": "Difference of the effective configuration" }, lines.map((line) => el("span", { class: kind(line) }, `${line}\n`)));
}

function changed(diff) {
  const lines = (diff ?? "").split("\n");
  const [added, removed] = ["+", "-"].map((sign) => lines.filter((line) => line.startsWith(sign)).length);
  return added || removed ? `+${added} −${removed}` : "no change";
}

function reload(one) {
  const summary = el("summary", null,
    el("span", { class: "state", "data-state": one.ok ? "good" : "bad" }, el("span", { class: "dot" }), el("span", null, one.ok ? "Taken" : "Refused")),
    el("time", { datetime: new Date(one.time_ms).toISOString() }, clock(one.time_ms)),
    el("span", { class: "of" }, one.trigger),
    el("span", { class: "of number" }, one.trigger === "start" ? "" : one.ok ? changed(one.diff) : `${count(one.errors.length)} error${one.errors.length === 1 ? "" : "s"}`),
    el("span", { class: "of number wide" }, one.took_us ? duration(one.took_us / 1e6) : ""));
  const body = one.ok ? difference(one.trigger === "start" ? "" : one.diff) : el("ol", { class: "errors" }, one.errors.map((error) => el("li", null, error)));
  const first = one.trigger === "start" ? el("p", { class: "hint" }, "The configuration that the process began with.") : body;
  return el("details", { class: "reload", open: one.ok ? null : true }, summary, first);
}

/** Shows the reloads of a new document. */
export function show(past) {
  const { configuration } = past.now;
  text(byId("reloads-sum"), `${configuration.file ?? "built in"}, ${count(configuration.taken)} taken, ${count(configuration.refused)} refused`);
  keep(byId("reload-list"), configuration.reloads, (one) => one.number, reload);
}

/** A line: its time, its level, and the message with what has told it. */
function written(line) {
  const parts = /^\[\S+T(\S+?)Z? \w+ +(\S+)\] (.*)$/s.exec(line.text);
  if (!parts) return el("p", { class: "log-line" }, el("span", { class: "message" }, line.text));
  const [time, source, message] = parts.slice(1);
  return el("p", { class: "log-line", "data-level": line.level },
    el("span", { class: "time" }, time), el("span", { class: "level" }, line.level), el("span", { class: "message" }, message, " ", el("span", { class: "of" }, source)));
}

/** A log, as far as it was read. */
export class Log {
  constructor() {
    this.after = 0;
    this.lines = [];
    this.isWritten = true;
    this.box = byId("log-lines");
    this.of = byId("log-of");
    this.filter = byId("log-filter");
    this.follow = byId("log-follow");
    this.filter.addEventListener("input", () => this.draw());
    this.of.addEventListener("change", () => this.begin());
    this.box.addEventListener("scroll", () => {
      const atEnd = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 8;
      if (!atEnd && document.activeElement === this.box) this.follow.checked = false;
    });
  }

  /** Forgets what was read. */
  begin() {
    [this.after, this.lines] = [0, []];
    this.draw();
  }

  /** The address of the lines that are not read yet. */
  get path() {
    return `/api/log?of=${this.of.value}&after=${this.after}`;
  }

  add(path, { lines, next, is_written }) {
    // An answer to what is no longer asked.
    if (path !== this.path) return;
    if (next < this.after) this.lines = [];
    [this.after, this.isWritten] = [next, is_written];
    if (!lines.length && this.lines.length) return;
    this.lines.push(...lines);
    this.lines.splice(0, this.lines.length - KEPT);
    this.draw();
  }

  nothing() {
    if (!this.isWritten) return "The file has no access_log.";
    return this.lines.length ? "No line has this text." : "Nothing was logged yet.";
  }

  draw() {
    const wanted = this.filter.value.toLowerCase();
    const shown = this.lines.filter((line) => line.text.toLowerCase().includes(wanted));
    if (!shown.length) return empty(this.box, this.nothing());
    filled(this.box);
    keep(this.box, shown, (line) => line.number, written);
    if (this.follow.checked) this.box.scrollTop = this.box.scrollHeight;
  }
}
