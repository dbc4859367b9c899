// Figures: how they are written, and what is made of counts that only grow.

const number = (digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const FORMATS = [0, 1, 2].map(number);
const NONE = "–";

/** Three digits that count. */
function three(value) {
  const digits = value >= 99.95 || value === 0 ? 0 : value >= 9.995 ? 1 : 2;
  return FORMATS[digits].format(value);
}

/** A rate or a count, with a unit for large ones. */
export function amount(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  if (value >= 1e9) return `${three(value / 1e9)} G`;
  if (value >= 1e6) return `${three(value / 1e6)} M`;
  if (value >= 1e5) return `${three(value / 1e3)} k`;
  return three(value);
}

/** A whole number. */
export const count = (value) => (value === null || value === undefined ? NONE : FORMATS[0].format(value));

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? three(value) : FORMATS[0].format(value)} ${units[unit]}`;
}

/** A share of 1, in percent. */
export function percent(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return NONE;
  const hundred = value * 100;
  if (hundred === 0) return "0 %";
  if (hundred < 0.01) return "<0.01 %";
  return `${FORMATS[hundred < 10 ? 2 : hundred < 99.95 ? 1 : 0].format(hundred)} %`;
}

/** A duration, given in seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NONE;
  if (seconds < 1e-3) return `${FORMATS[0].format(seconds * 1e6)} µs`;
  if (seconds < 1) return `${three(seconds * 1e3)} ms`;
  return `${three(seconds)} s`;
}

/** A long time, given in seconds: its two largest units. */
export function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  let rest = Math.floor(seconds);
  const parts = units.slice(first, first + 2).map(([name, size]) => {
    const n = Math.floor(rest / size);
    rest -= n * size;
    return n ? `${n} ${name}` : null;
  });
  return parts.filter(Boolean).join(" ");
}

/** The time of day, of milliseconds since 1970. */
export function clock(ms) {
  const date = new Date(ms);
  const same = date.toDateString() === new Date().toDateString();
  const time = date.toLocaleTimeString("en-GB");
  return same ? time : `${date.toISOString().slice(0, 10)} ${time}`;
}

const sum = (counts) => Object.values(counts ?? {}).reduce((all, n) => all + n, 0);

/** A difference of counts; one that has begun anew stands for itself. */
const since = (now, before) => (now >= (before ?? 0) ? now - (before ?? 0) : now);

function countsSince(now, before) {
  const names = Object.keys(now ?? {});
  return Object.fromEntries(names.map((name) => [name, since(now[name], before?.[name])]));
}

/** The duration that this share of all is not longer than; `null` when there are none. */
export function quantile(buckets, bounds, share) {
  const all = buckets.reduce((all, [, n]) => all + n, 0);
  if (!all) return null;
  const rank = Math.max(1, Math.ceil(all * share));
  let below = 0;
  for (const [index, n] of buckets) {
    if (below + n >= rank) {
      const from = index > 0 ? bounds[index - 1] : 0;
      const to = bounds[index] ?? from;
      return from + ((to - from) * (rank - below)) / n;
    }
    below += n;
  }
  return null;
}

function bucketsSince(now, before) {
  const earlier = new Map(before ?? []);
  const all = (now ?? []).map(([index, n]) => [index, since(n, earlier.get(index))]);
  return all.filter(([, n]) => n > 0);
}

/** Figures of requests between two moments, of counts as the status has them. */
export function traffic(now, before, seconds, bounds) {
  const answers = countsSince(now.requests ?? now.responses, before?.requests ?? before?.responses);
  const failures = countsSince(now.failures, before?.failures);
  const requests = sum(answers) + (now.responses ? sum(failures) : 0);
  const failed = (answers["5xx"] ?? 0) + (answers.none ?? 0) + (now.responses ? sum(failures) : 0);
  const buckets = bucketsSince(now.durations?.buckets, before?.durations?.buckets);
  return {
    rate: requests / seconds,
    requests,
    failed,
    failedRate: failed / seconds,
    failedShare: requests ? failed / requests : null,
    refusedShare: requests ? (answers["4xx"] ?? 0) / requests : null,
    p50: quantile(buckets, bounds, 0.5),
    p99: quantile(buckets, bounds, 0.99),
    in: since(now.bytes_in ?? 0, before?.bytes_in) / seconds,
    out: since(now.bytes_out ?? 0, before?.bytes_out) / seconds,
    cache: countsSince(now.cache, before?.cache),
    open: now.open,
  };
}

/** The last documents, to compare with. */
export class Past {
  constructor(seconds) {
    this.seconds = seconds;
    this.all = [];
  }

  add(status) {
    const last = this.all.at(-1);
    // Another process has begun to count anew.
    if (last && last.started_ms !== status.started_ms) this.all = [];
    this.all.push(status);
    const oldest = status.now_ms - (this.seconds + 5) * 1000;
    while (this.all.length > 2 && this.all[1].now_ms < oldest) this.all.shift();
  }

  get now() {
    return this.all.at(-1);
  }

  /** The document of so many seconds ago, or the oldest. */
  ago(seconds) {
    const time = this.now.now_ms - seconds * 1000;
    const found = this.all.findLast((one) => one.now_ms <= time + 250);
    return found ?? this.all[0];
  }
}
