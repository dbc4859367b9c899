// Requests: the figures at the top, the charts, the sites, the routes.

import { Chart, SMALL, spark } from "./charts.js";
import { byId, el, empty, keep, table, text } from "./dom.js";
import { amount, bytes, count, duration, percent, traffic } from "./figures.js";

/** Seconds over which a table tells rates. */
const WINDOW = 10;
/** Seconds over which routes are compared. */
const LONG = 60;
/** Routes of a list. */
const LISTED = 8;

const lines = new Map();

/** Remembers a value for a small line. */
function remember(name, value) {
  let values = lines.get(name);
  if (!values) lines.set(name, (values = []));
  values.push(value);
  if (values.length > SMALL) values.shift();
  return values;
}

let charts = null;

function makeCharts() {
  const rate = (value) => amount(value);
  return {
    requests: new Chart(byId("chart-requests"), {
      label: "Requests a second over five minutes",
      lines: [{ name: "all", class: "accent", area: true }, { name: "failed", class: "bad", area: true }],
      format: rate,
    }),
    latency: new Chart(byId("chart-latency"), {
      label: "Latency over five minutes",
      lines: [{ name: "p99", class: "faint" }, { name: "p50", class: "accent", area: true }],
      format: duration,
    }),
  };
}

/** All requests of a document. */
const total = (status) => status.total;

function between(past, seconds, read) {
  const [now, before] = [past.now, past.ago(seconds)];
  const elapsed = Math.max((now.now_ms - before.now_ms) / 1000, 1e-3);
  return traffic(read(now), read(before), elapsed, now.duration_bounds);
}

/** A state in words for the share of failures. */
const alarm = (share) => (share > 0.01 ? "bad" : share > 0 ? "warn" : "");

function tiles(recent, second, status) {
  const snapshot = status.snapshot;
  const all = [
    { name: "Requests", unit: "/s", value: amount(recent.rate), line: second?.rate, kind: "accent" },
    { name: "Failed", value: percent(recent.failedShare ?? 0), line: second?.failedShare ?? 0, kind: "bad", state: alarm(recent.failedShare), more: "5xx and broken off" },
    { name: "p50", value: duration(recent.p50), line: second?.p50, kind: "accent" },
    { name: "p99", value: duration(recent.p99), line: second?.p99, kind: "accent" },
    { name: "Under way", value: count(recent.open), line: recent.open, kind: "accent", more: `${count(snapshot.process.connections)} connections` },
    { name: "Sent", unit: "/s", value: bytes(recent.out), line: second?.out, kind: "accent", more: `${bytes(recent.in)}/s received` },
  ];
  const make = ({ name, unit }) =>
    el("div", { class: "tile" }, el("dt", null, name), el("dd", null, el("span", { class: "figure" }), unit ? el("span", { class: "unit" }, unit) : null, el("span", { class: "more" })));
  keep(byId("tiles"), all, (tile) => tile.name, make, (child, tile) => {
    child.dataset.state = tile.state ?? "";
    text(child.querySelector(".figure"), tile.value);
    text(child.querySelector(".more"), tile.more ?? "");
    spark(child, remember(`tile ${tile.name}`, tile.line ?? null), tile.kind);
  });
}

const columns = (title) => [
  { title, class: "name", cell: (row) => row.name },
  { title: "Requests/s", class: "number", cell: (row) => amount(row.recent.rate) },
  { title: "", class: "spark-cell wide", cell: (row, cell) => spark(cell, row.values, "accent") },
  { title: "Failed", class: "number", cell: (row, cell) => { cell.dataset.state = alarm(row.recent.failedShare); return percent(row.recent.failedShare); } },
  { title: "4xx", class: "number wide", cell: (row) => percent(row.recent.refusedShare) },
  { title: "p50", class: "number wide", cell: (row) => duration(row.recent.p50) },
  { title: "p99", class: "number", cell: (row) => duration(row.recent.p99) },
  { title: "Under way", class: "number wide", cell: (row) => count(row.recent.open) },
  { title: "Sent/s", class: "number wide", cell: (row) => bytes(row.recent.out) },
];

function sites(past) {
  const rows = past.now.snapshot.sites.map((site) => ({ name: site.name, read: (status) => status.snapshot.sites.find((one) => one.name === site.name)?.total ?? {} }));
  rows.push({ name: "no site", read: (status) => status.snapshot.no_site });
  const shown = rows
    .map((row) => ({ name: row.name, recent: between(past, WINDOW, row.read) }))
    .filter((row) => row.name !== "no site" || row.recent.requests > 0)
    .map((row) => ({ ...row, values: remember(`site ${row.name}`, row.recent.rate) }));
  if (!shown.length) return empty(byId("sites"), "The file has no site.");
  shown.sort((a, b) => b.recent.rate - a.recent.rate || a.name.localeCompare(b.name));
  table(byId("sites"), columns("Site"), shown.slice(0, 100), (row) => row.name);
}

function routes(past) {
  const all = past.now.snapshot.sites.flatMap((site) =>
    site.routes.map((route) => ({
      site: site.name,
      route: route.name,
      key: `${site.name} ${route.name}`,
      recent: between(past, LONG, (status) => status.snapshot.sites.find((one) => one.name === site.name)?.routes.find((one) => one.name === route.name) ?? {}),
    })),
  );
  const name = (title) => ({
    title,
    class: "name",
    cell: (row, cell) => {
      if (!cell.firstChild) cell.append(el("span", { class: "route" }), el("span", { class: "of" }));
      const [, number, paths] = /^(\d+) (.*)$/.exec(row.route) ?? [null, "", row.route];
      text(cell.firstChild, paths);
      text(cell.lastChild, `${row.site}, route ${number}`);
    },
  });
  const rate = { title: "Requests/s", class: "number wide", cell: (row) => amount(row.recent.rate) };
  const slowest = all.filter((row) => row.recent.p99 !== null).sort((a, b) => b.recent.p99 - a.recent.p99);
  if (slowest.length) {
    const times = [
      { title: "p50", class: "number", cell: (row) => duration(row.recent.p50) },
      { title: "p99", class: "number", cell: (row) => duration(row.recent.p99) },
    ];
    table(byId("slowest"), [name("Route"), rate, ...times], slowest.slice(0, LISTED), (row) => row.key);
  } else empty(byId("slowest"), "No request in the last minute.");
  const failing = all.filter((row) => row.recent.failed > 0).sort((a, b) => b.recent.failed - a.recent.failed);
  if (failing.length) {
    const failures = [
      { title: "Failed", class: "number", cell: (row, cell) => { cell.dataset.state = alarm(row.recent.failedShare); return count(row.recent.failed); } },
      { title: "Share", class: "number", cell: (row) => percent(row.recent.failedShare) },
    ];
    table(byId("failing"), [name("Route"), rate, ...failures], failing.slice(0, LISTED), (row) => row.key);
  } else empty(byId("failing"), "No failure in the last minute.");
}

/** Shows a new document; returns the requests a second. */
export function show(past) {
  charts ??= makeCharts();
  const recent = between(past, WINDOW, total);
  const second = past.all.length > 1 ? between(past, 1, total) : null;
  tiles(recent, second, past.now);
  if (second) {
    charts.requests.add(past.now.now_ms, [second.rate, second.failedRate]);
    charts.latency.add(past.now.now_ms, [second.p99, second.p50]);
  }
  sites(past);
  routes(past);
  return amount(recent.rate);
}
