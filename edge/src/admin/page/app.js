// The dashboard: asks for the state once a second, shows it, and sends what its buttons say.

import { Log, show as showChanges } from "./changes.js";
import { attribute, byId, el, text } from "./dom.js";
import { Past, span } from "./figures.js";
import { show as showFleet } from "./fleet.js";
import { show as showTraffic } from "./traffic.js";

const PERIOD = 1000;
const past = new Past(60);
const log = new Log();

/** Asks for a document, or sends one. */
async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(30000) });
  if (answer.status === 401) return location.reload();
  const document = await answer.json().catch(() => ({ error: `status ${answer.status}` }));
  return { ok: answer.ok, document };
}

function state(name, kind) {
  byId("state").dataset.state = kind;
  text(byId("state-text"), name);
}

function notice(message, kind, lines = []) {
  const box = byId("notice");
  const list = lines.length ? [el("ol", null, lines.map((line) => el("li", null, line)))] : [];
  byId("notice-text").replaceChildren(el("p", null, message), ...list);
  box.dataset.state = kind;
  box.hidden = false;
}

let answered = Promise.resolve();

/** Asks a question in a dialogue, which keeps the focus. */
async function confirmed(title, message, yes) {
  const dialog = byId("ask");
  // A dialogue tells that it was closed a moment after it is gone; a question asked meanwhile would take that for its answer.
  await answered;
  text(byId("ask-title"), title);
  text(byId("ask-text"), message);
  text(byId("ask-yes"), yes);
  dialog.returnValue = "";
  dialog.showModal();
  answered = new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
  return answered;
}

function top(status) {
  const about = [status.version, `process ${status.pid}`, `up ${span(status.uptime_ms / 1000)}`, status.listeners.map((one) => one.address).join(", ")];
  text(byId("about"), about.join(" · "));
  state(status.draining ? "Draining" : "Serving", status.draining ? "warn" : "good");
  text(byId("drain"), status.draining ? "End draining" : "Drain process");
  attribute(byId("reload"), "hidden", !status.configuration.file);
  attribute(byId("logout"), "hidden", !status.token);
}

function show() {
  top(past.now);
  const rate = showTraffic(past);
  document.title = `${rate}/s · reverse-proxy`;
  showFleet(past, drainServer);
  showChanges(past);
}

async function poll() {
  const path = log.path;
  const [status, lines] = await Promise.all([ask("/api/status"), ask(path)]);
  if (!status || !lines) return;
  if (!status.ok) throw new Error(status.document.error);
  past.add(status.document);
  show();
  if (lines.ok) log.add(path, lines.document);
}

async function loop() {
  for (;;) {
    const began = performance.now();
    if (!document.hidden) {
      try {
        await poll();
      } catch {
        state("Not reachable", "bad");
      }
    }
    await new Promise((wake) => setTimeout(wake, Math.max(100, PERIOD - (performance.now() - began))));
  }
}

/** Does something with a button pressed meanwhile, and shows the result at once. */
async function act(button, work) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    await work();
    await poll();
  } catch {
    notice("The proxy does not answer.", "bad");
  } finally {
    button.disabled = false;
    button.removeAttribute("aria-busy");
    button.focus();
  }
}

async function drainServer({ endpoint, index }, button) {
  const drained = endpoint.status === "drained";
  await act(button, async () => {
    const path = `/api/endpoints/${drained ? "undrain" : "drain"}`;
    const { ok, document } = await ask(path, { endpoint: endpoint.address ?? endpoint.server, cluster: index });
    if (ok) notice(`${endpoint.server} ${drained ? "gets requests again" : "gets no new requests"}.`, "good");
    else notice(document.error, "bad");
  });
}

byId("reload").addEventListener("click", ({ currentTarget }) =>
  act(currentTarget, async () => {
    const { ok, document } = await ask("/api/reload", {});
    if (ok) notice("The file is taken.", "good");
    else if (document.errors) notice("The file is not taken; the configuration before serves on.", "bad", document.errors);
    else notice(document.error, "bad");
  }),
);

byId("drain").addEventListener("click", async ({ currentTarget: button }) => {
  const on = !past.now?.draining;
  const question = "Readiness turns to 503, and each connection is closed after its request. Requests are served on.";
  if (on && !(await confirmed("Drain this process?", question, "Drain"))) return;
  await act(button, async () => {
    const { ok, document } = await ask(on ? "/api/drain" : "/api/undrain", {});
    if (!ok) notice(document.error, "bad");
  });
});

byId("purge").addEventListener("submit", async (event) => {
  event.preventDefault();
  const url = byId("purge-url").value.trim();
  await act(event.target.querySelector("button"), async () => {
    const { ok, document } = await ask("/api/cache/purge", byId("purge-below").checked ? { prefix: url } : { url });
    if (ok) notice(`${document.removed} stored answer${document.removed === 1 ? " is" : "s are"} removed.`, "good");
    else notice(document.error, "bad");
  });
});

byId("log-of").addEventListener("change", () => poll().catch(() => {}));

byId("logout").addEventListener("click", async () => {
  await ask("/api/logout", {});
  location.reload();
});

byId("notice-close").addEventListener("click", () => {
  byId("notice").hidden = true;
  byId("reload").focus();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll().catch(() => {});
});

loop();
