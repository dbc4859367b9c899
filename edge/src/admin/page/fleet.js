// Servers, workers, the cache and certificates.

import { meter, stack } from "./charts.js";
import { attribute, byId, el, empty, filled, keep, table, text } from "./dom.js";
import { amount, bytes, count, duration, percent, span, traffic } from "./figures.js";

const WINDOW = 10;

/** What a status means, and how it is shown. */
const STATES = {
  up: ["Up", "good"],
  slow_start: ["Slow start", "warn"],
  ejected: ["Ejected", "bad"],
  circuit_open: ["Circuit open", "bad"],
  down: ["Down", "bad"],
  drained: ["Drained", "off"],
  unresolved: ["No address", "bad"],
  no_weight: ["No weight", "off"],
};

const figures = (past, read) => {
  const [now, before] = [past.now, past.ago(WINDOW)];
  const elapsed = Math.max((now.now_ms - before.now_ms) / 1000, 1e-3);
  const counts = read(now);
  return counts ? traffic(counts, read(before), elapsed, now.duration_bounds) : null;
};

function serverRows(past, cluster, index) {
  const rows = cluster.endpoints.map((endpoint) => {
    const find = (status) => status.snapshot.endpoints.find((one) => one.cluster === cluster.name && one.address === endpoint.address);
    return { endpoint, index, recent: figures(past, find) };
  });
  const all = rows.reduce((sum, row) => sum + (row.recent?.rate ?? 0), 0);
  const taking = rows.filter(({ endpoint }) => endpoint.status === "up" || endpoint.status === "slow_start");
  const weights = taking.reduce((sum, { endpoint }) => sum + endpoint.weight, 0);
  for (const row of rows) {
    row.share = all ? (row.recent?.rate ?? 0) / all : 0;
    row.due = taking.includes(row) && weights ? row.endpoint.weight / weights : null;
  }
  return rows;
}

function state(row, cell) {
  const { endpoint } = row;
  const [name, kind] = STATES[endpoint.status] ?? [endpoint.status, "off"];
  if (!cell.firstChild) cell.append(el("span", { class: "state" }, el("span", { class: "dot" }), el("span")), el("span", { class: "of" }));
  cell.firstChild.dataset.state = kind;
  text(cell.firstChild.lastChild, name);
  const more = [endpoint.why, endpoint.name_error && `name: ${endpoint.name_error}`];
  if (endpoint.status === "slow_start") more.push(`${endpoint.share_percent} % of its share`);
  if (endpoint.tried_in_ms) more.push(`next try in ${duration(endpoint.tried_in_ms / 1000)}`);
  text(cell.lastChild, more.filter(Boolean).join(", "));
  attribute(cell, "title", more.filter(Boolean).join(", ") || null);
}

const serverColumns = (drain) => [
  {
    title: "Server",
    class: "name",
    cell: ({ endpoint }, cell) => {
      if (!cell.firstChild) cell.append(el("span", { class: "route" }), el("span", { class: "of" }));
      text(cell.firstChild, endpoint.server);
      const more = [endpoint.address && endpoint.address !== endpoint.server ? endpoint.address : "", endpoint.backup ? "backup" : "", endpoint.weight === 1 ? "" : `weight ${endpoint.weight}`, endpoint.max_connections ? `${count(endpoint.connections ?? 0)} of ${count(endpoint.max_connections)} connections` : ""];
      text(cell.lastChild, more.filter(Boolean).join(", "));
    },
  },
  { title: "State", class: "name", cell: state },
  {
    title: "Share",
    class: "share wide",
    cell: (row, cell) => {
      const label = row.due === null ? percent(row.share) : `${percent(row.share)}, by weight ${percent(row.due)}`;
      meter(cell, `${Math.round(row.share * 100)} %`, row.share, { mark: row.due, label });
    },
  },
  { title: "Requests/s", class: "number", cell: (row) => amount(row.recent?.rate) },
  { title: "Failed", class: "number", cell: (row, cell) => { cell.dataset.state = row.recent?.failed ? "bad" : ""; return percent(row.recent?.failedShare); } },
  { title: "p50", class: "number wide", cell: (row) => duration(row.recent?.p50) },
  { title: "p99", class: "number wide", cell: (row) => duration(row.recent?.p99) },
  { title: "Under way", class: "number wide", cell: ({ endpoint }) => (endpoint.max_requests ? `${count(endpoint.open)} / ${count(endpoint.max_requests)}` : count(endpoint.open)) },
  {
    title: "",
    class: "act",
    cell: (row, cell) => {
      const drained = row.endpoint.status === "drained";
      let button = cell.firstChild;
      if (!button) {
        button = el("button", { type: "button", class: "small", on: { click: () => drain(button.row, button) } });
        cell.append(button);
      }
      button.row = row;
      text(button, drained ? "Restore" : "Drain");
      attribute(button, "aria-label", `${drained ? "Restore" : "Drain"} ${row.endpoint.server}`);
      attribute(button, "hidden", row.endpoint.status === "no_weight");
    },
  },
];

function servers(past, drain) {
  const parent = byId("clusters");
  const clusters = past.now.clusters;
  if (!clusters.length) {
    text(byId("servers-sum"), "");
    return empty(parent, "No route passes requests to a server.");
  }
  filled(parent);
  const make = (cluster) => el("div", { class: "cluster" }, el("h3"), el("div", { class: "scroll" }, el("table", { "aria-label": `Servers of ${cluster.name}` })));
  const columns = serverColumns(drain);
  let [up, all] = [0, 0];
  const numbers = new Map(clusters.map((cluster, index) => [cluster, index]));
  keep(parent, clusters, (cluster) => cluster.place + cluster.name, make, (child, cluster) => {
    const rows = serverRows(past, cluster, numbers.get(cluster));
    all += rows.length;
    up += rows.filter(({ endpoint }) => endpoint.status === "up" || endpoint.status === "slow_start").length;
    const heading = child.firstChild;
    if (!heading.firstChild) heading.append(el("span"), el("span", { class: "of" }));
    text(heading.firstChild, cluster.name);
    const waiting = cluster.queue ? `, ${count(cluster.queue.waiting)} of ${count(cluster.queue.size)} wait` : "";
    text(heading.lastChild, cluster.balance.replaceAll("_", " ") + waiting);
    table(child.querySelector("table"), columns, rows, (row) => `${row.endpoint.server} ${row.endpoint.address}`);
  });
  text(byId("servers-sum"), `${up} of ${all} take requests`);
}

function workers(past) {
  const [now, before] = [past.now, past.ago(WINDOW)];
  const elapsed = Math.max((now.now_ms - before.now_ms) / 1000, 1e-3);
  const rows = now.snapshot.workers.map((worker) => {
    const earlier = before.snapshot.workers.find((one) => one.index === worker.index);
    const accepts = now.workers[worker.index];
    return {
      index: worker.index,
      rate: Math.max(0, worker.requests - (earlier?.requests ?? 0)) / elapsed,
      open: worker.open_requests,
      connections: accepts?.connections,
      busy: worker.cpu_seconds === null ? null : Math.max(0, worker.cpu_seconds - (earlier?.cpu_seconds ?? worker.cpu_seconds)) / elapsed,
    };
  });
  if (!rows.length) {
    text(byId("workers-sum"), "");
    return empty(byId("worker-table"), "No worker has served a request yet.");
  }
  const most = Math.max(...rows.map((row) => row.rate));
  const mean = rows.reduce((sum, row) => sum + row.rate, 0) / rows.length;
  text(byId("workers-sum"), mean > 0 && rows.length > 1 ? `the busiest has ${(most / mean).toFixed(2)} times the mean` : "");
  const columns = [
    { title: "Worker", class: "name", cell: (row) => String(row.index) },
    {
      title: "Requests/s",
      class: "share",
      cell: (row, cell) => meter(cell, amount(row.rate), most ? row.rate / most : 0, { label: `${amount(row.rate)} requests a second` }),
    },
    { title: "Under way", class: "number", cell: (row) => count(row.open) },
    { title: "Connections", class: "number wide", cell: (row) => count(row.connections) },
    { title: "Processor", class: "number", cell: (row) => percent(row.busy) },
  ];
  table(byId("worker-table"), columns, rows, (row) => row.index);
}

const CACHE = [["hit", "accent", "hits"], ["stale", "accent-2", "stale"], ["revalidated", "accent-3", "revalidated"], ["expired", "faint", "expired"], ["miss", "faint-2", "misses"], ["bypass", "ground", "past the cache"]];

function cache(past) {
  const parent = byId("cache");
  const all = (status) => {
    const sum = {};
    for (const site of status.snapshot.sites) for (const [name, n] of Object.entries(site.total.cache ?? {})) sum[name] = (sum[name] ?? 0) + n;
    return sum;
  };
  const [now, before] = [all(past.now), all(past.ago(60))];
  const used = Object.values(now).reduce((sum, n) => sum + n, 0);
  const memory = past.now.cache;
  attribute(byId("purge"), "hidden", !memory);
  if (!used && !memory) {
    text(byId("cache-sum"), "");
    return empty(parent, "No route uses the cache.");
  }
  filled(parent);
  const since = Object.fromEntries(CACHE.map(([name]) => [name, (now[name] ?? 0) - (before[name] ?? 0)]));
  const asked = Object.values(since).reduce((sum, n) => sum + n, 0) - since.bypass;
  const served = since.hit + since.stale + since.revalidated;
  text(byId("cache-sum"), asked > 0 ? `${percent(served / asked)} served from it, last minute` : "not asked in the last minute");
  stack(parent, CACHE.map(([name, kind]) => [kind, since[name]]), CACHE.map(([name, , title]) => `${count(since[name])} ${title}`).join(", "));
  let legend = parent.querySelector("dl");
  if (!legend) parent.append((legend = el("dl", { class: "facts" })));
  const facts = CACHE.map(([name, kind, title]) => ({ title, kind, value: count(since[name]) }));
  if (memory) {
    facts.push({ title: "memory", kind: "", value: `${bytes(memory.bytes)} of ${bytes(memory.max_bytes)}` });
    if (memory.entries !== undefined) facts.push({ title: "answers", kind: "", value: count(memory.entries) });
  }
  keep(legend, facts, (fact) => fact.title, (fact) => el("div", null, el("dt", { class: fact.kind ? `key ${fact.kind}` : null }, fact.title), el("dd")), (child, fact) => text(child.lastChild, fact.value));
}

/** Writes the first names of a certificate, and the number of the others. */
function names(all) {
  const shown = all.slice(0, 3).join(", ");
  return all.length > 3 ? `${shown} and ${all.length - 3} more` : shown;
}

function certificates(past) {
  const all = past.now.snapshot.certificates;
  if (!all.length) {
    text(byId("certificates-sum"), "");
    return empty(byId("certificate-table"), "No site has a certificate.");
  }
  const now = past.now.now_ms / 1000;
  const rows = all.map((one) => ({ ...one, left: one.not_after === null || one.not_after === undefined ? null : one.not_after - now }));
  rows.sort((a, b) => (a.left ?? -1) - (b.left ?? -1));
  const soon = rows.filter((row) => row.left === null || row.left < 7 * 86400).length;
  const failing = rows.filter((row) => row.error).length;
  const sums = [soon && `${soon} ${soon === 1 ? "expires" : "expire"} within a week, or not there yet`, failing && `${failing} cannot be had or renewed`];
  text(byId("certificates-sum"), sums.filter(Boolean).join("; "));
  const kind = (left) => (left === null || left < 0 ? "bad" : left < 7 * 86400 ? "bad" : left < 21 * 86400 ? "warn" : "good");
  const columns = [
    { title: "Site", class: "name", cell: (row) => row.site },
    { title: "For", class: "name", cell: (row) => names(row.names) },
    { title: "From", cell: (row) => (row.automatic ? "ACME" : "file") },
    { title: "Expires", class: "number", cell: (row) => (row.left === null ? "none yet" : new Date(row.not_after * 1000).toISOString().slice(0, 10)) },
    {
      title: "Left",
      class: "share",
      cell: (row, cell) => {
        const left = row.left === null ? "–" : row.left < 0 ? "expired" : span(row.left).split(" ").slice(0, 2).join(" ");
        meter(cell, left, (row.left ?? 0) / (90 * 86400), { kind: kind(row.left), label: `${left} of 90 days` });
      },
    },
  ];
  if (failing) {
    columns.push({ title: "Last error", class: "name", cell: (row) => row.error ?? "" });
    columns.push({ title: "Next try", class: "number", cell: (row) => (row.error && row.next_try ? `in ${span(Math.max(row.next_try - now, 1)).split(" ").slice(0, 2).join(" ")}` : "") });
  }
  table(byId("certificate-table"), columns, rows.slice(0, 200), (row) => `${row.site} ${row.names} ${row.not_after} ${failing > 0}`);
}

/** Shows a new document; `drain` is called with a row whose button was pressed. */
export function show(past, drain) {
  servers(past, drain);
  workers(past);
  cache(past);
  certificates(past);
}
