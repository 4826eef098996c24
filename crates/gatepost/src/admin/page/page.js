// The status page: asks the API every two seconds and shows what it says.
//
// Names come from the Internet. They are only ever set as text, and characters that nobody sees (controls, those that turn the
// direction of writing) are spelled out. The token is kept in this tab's sessionStorage and sent in a header, nowhere else.

import { Chart } from "./charts.js";

const EVERY = 2000;
const PATIENCE = 8000;
const SHOWN = 50;
const KEPT = 720;
const KEY = "gatepost-token";
const $ = (id) => document.getElementById(id);

// ---- Asking ----

class Unanswered extends Error {}
class TokenWanted extends Error {}

let token = sessionStorage.getItem(KEY);

/** Asks the API. Whoever must say who it is gets a TokenWanted, whoever hears nothing an Unanswered, a refusal is an Error. */
const ask = async (path, method = "GET") => {
  let answer;
  try {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    answer = await fetch(path, { method, headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) });
  } catch {
    throw new Unanswered();
  }
  if (answer.status === 401) throw new TokenWanted();
  let said;
  try {
    said = await answer.json();
  } catch {
    throw new Unanswered();
  }
  if (!answer.ok) throw new Error(said.error ?? `the server said ${answer.status}`);
  return said;
};

const query = (words) => new URLSearchParams(words).toString();

// ---- Words ----

const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}\p{Cn}]/gu;
const spelled = (text) => String(text).replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const count = (n) => n.toLocaleString("en-US").replaceAll(",", "\u202f");
const rate = (n) => (n >= 100 ? count(Math.round(n)) : n.toFixed(n >= 10 ? 1 : 2).replace(/\.?0+$/, ""));
const octets = (n) => {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  for (; n >= 999.5 && unit < units.length - 1; unit++) n /= 1000;
  return `${unit && n < 99.95 ? n.toFixed(1).replace(/\.0$/, "") : Math.round(n)} ${units[unit]}`;
};
const time = (s) => {
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
};
const latency = (s) => (s < 0.001 ? `${Math.round(s * 1e6)} µs` : s < 1 ? `${(s * 1000).toFixed(s < 0.01 ? 1 : 0)} ms` : `${s.toFixed(1)} s`);

// ---- Building ----

const put = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

/** A value in a cell of its own direction, with all of it to read where it is cut. */
const value = (cell, text, sub = "") => {
  let [main, more] = cell.children;
  if (!main) {
    main = document.createElement("bdi");
    more = document.createElement("span");
    more.className = "sub";
    cell.append(main, more);
  }
  const words = spelled(text);
  put(main, words);
  put(more, sub ? ` ${spelled(sub)}` : "");
  if (main.title !== words) main.title = words;
  cell.classList.toggle("blank", words === "" && !sub);
};

/** Makes the rows of a table those of `items`, and keeps those that stay, with whatever has the focus in them. */
const rows = (section, items, key, columns, nothing) => {
  const body = $(section).querySelector("tbody");
  const have = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = items.map((item) => {
    // Whatever the name is, it is not the empty one of the row that says that there is nothing.
    const name = `=${key(item)}`;
    let row = have.get(name);
    have.delete(name);
    if (!row) {
      row = document.createElement("tr");
      row.dataset.key = name;
      for (const { label, style } of columns) {
        const cell = row.insertCell();
        cell.className = style ?? "";
        if (label) cell.dataset.label = label;
      }
    }
    columns.forEach(({ fill }, i) => fill(row.cells[i], item));
    return row;
  });
  for (const row of have.values()) row.remove();
  if (!wanted.length) {
    const row = document.createElement("tr");
    row.dataset.key = "";
    const cell = row.insertCell();
    cell.className = "nothing";
    cell.colSpan = columns.length;
    cell.textContent = nothing;
    wanted.push(row);
  }
  wanted.forEach((row, i) => {
    if (body.rows[i] !== row) body.insertBefore(row, body.rows[i] ?? null);
  });
};

/** A button in a cell; what it does may change with the row. */
const button = (cell, word, name, press) => {
  let it = cell.firstElementChild;
  if (!it) {
    it = document.createElement("button");
    it.type = "button";
    it.className = "small";
    it.textContent = word;
    it.addEventListener("click", () => it.press());
    cell.append(it);
  }
  it.press = press;
  if (it.getAttribute("aria-label") !== name) it.setAttribute("aria-label", name);
};

const meter = (cell, percent, style) => {
  let it = cell.querySelector(".meter");
  if (!it) {
    it = document.createElement("span");
    it.className = "meter";
    it.append(document.createElement("i"));
    cell.append(it);
  }
  it.className = `meter ${style}`;
  it.firstChild.style.width = `${Math.min(100, Math.max(0, percent))}%`;
};

// ---- What was: the ring of the server, kept along ----

const past = { started: null, next: 0, samples: [] };

const remember = async () => {
  const said = await ask(`/v1/history?${query({ since: past.next })}`);
  if (said.started !== past.started || said.first > past.next) past.samples = [];
  past.started = said.started;
  past.next = said.next;
  past.every = said.every;
  const at = (list, i) => list?.[i] ?? 0;
  said.time.forEach((t, i) => {
    past.samples.push({
      t,
      seconds: at(said.seconds, i),
      protocols: Object.fromEntries(Object.entries(said.sessions).map(([name, list]) => [name, at(list, i)])),
      backends: Object.fromEntries(said.backends.map(({ address, sessions }) => [address, at(sessions, i)])),
      others: at(said.others, i),
      logins: at(said.logins, i),
      refused: at(said.refused, i),
      toBackend: at(said.to_backend, i),
      toClient: at(said.to_client, i),
    });
  });
  past.samples.splice(0, past.samples.length - KEPT);
};

const charts = {
  sessions: new Chart($("c-sessions"), { stacked: true, write: (n) => count(Math.round(n)), least: 1, what: "Sessions" }),
  logins: new Chart($("c-logins"), { write: rate, least: 0.05, what: "Logins a second" }),
  traffic: new Chart($("c-traffic"), { write: octets, least: 1, what: "Octets a second" }),
};

/** A backend keeps its colour for as long as the page is open. */
const colours = new Map();
const NAMED = 7;

const drawPast = () => {
  const { samples, every = 5 } = past;
  const long = samples.length ? samples[samples.length - 1].t - samples[0].t : 0;
  const chosen = document.querySelector("input[name=span]:checked") ?? pickSpan(long);
  const span = Number(chosen.value);
  const times = samples.map((s) => s.t);
  const draw = (chart, series) => charts[chart].draw({ times, span, every, series });
  const column = (name, style, of) => ({ name, style, values: samples.map(of) });
  const perSecond = (of) => (s) => (s.seconds ? of(s) / s.seconds : 0);

  draw("logins", [column("signed in", "s1", perSecond((s) => s.logins)), column("refused", "s4", perSecond((s) => s.refused))]);
  draw("traffic", [column("to clients", "s0", perSecond((s) => s.toClient)), column("to backends", "s2", perSecond((s) => s.toBackend))]);
  if (document.querySelector("input[name=split]:checked").value === "protocol") {
    const names = [...new Set(samples.flatMap((s) => Object.keys(s.protocols)))];
    draw("sessions", names.map((name, i) => column(name, `s${i % NAMED}`, (s) => s.protocols[name] ?? 0)));
    return;
  }
  const sums = new Map();
  for (const sample of samples.filter((s) => s.t >= times[times.length - 1] - span)) {
    for (const [name, n] of Object.entries(sample.backends)) sums.set(name, (sums.get(name) ?? 0) + n);
  }
  const most = [...sums].filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]).slice(0, NAMED).map(([name]) => name).sort();
  const own = new Set(most);
  for (const name of [...colours.keys()]) if (!own.has(name)) colours.delete(name);
  for (const name of most) {
    if (colours.has(name)) continue;
    const taken = new Set(colours.values());
    colours.set(name, [...Array(NAMED).keys()].find((n) => !taken.has(n)) ?? 0);
  }
  const series = most.map((name) => column(name, `s${colours.get(name)}`, (s) => s.backends[name] ?? 0));
  const rest = column("others", "s7", (s) => s.others + Object.entries(s.backends).reduce((sum, [name, n]) => (own.has(name) ? sum : sum + n), 0));
  if (rest.values.some((n) => n > 0)) series.push(rest);
  draw("sessions", series);
};

/** Until somebody chooses: the shortest that shows all there is. */
const pickSpan = (long) => {
  const all = [...document.querySelectorAll("input[name=span]")];
  const fits = all.find((one) => Number(one.value) >= long) ?? all[all.length - 1];
  all.forEach((one) => one.parentElement.classList.toggle("picked", one === fits));
  return fits;
};

// ---- What is ----

const states = ["up", "suspect", "down", "unknown"];

const drawStatus = (status) => {
  put($("name"), spelled(status.name));
  document.title = `Gatepost ${spelled(status.name)}`;
  phase(status.phase);
  put($("uptime"), `${status.gatepost}, up ${time(status.uptime)}`);
  const drain = $("drain");
  drain.hidden = status.phase === "stopping";
  put(drain, status.phase === "draining" ? "End drain" : "Drain");

  const protocols = Object.entries(status.sessions);
  put($("t-sessions"), count(protocols.reduce((sum, [, n]) => sum + n, 0)));
  put($("t-protocols"), protocols.map(([name, n]) => `${name} ${count(n)}`).join(", "));
  put($("t-connections"), `${plural(status.connections, "connection")} in all`);
  const perSecond = (refused) => status.logins.reduce((sum, one) => ((one.outcome === "refused") === refused ? sum + one.per_second : sum), 0);
  put($("t-logins"), rate(perSecond(false)));
  put($("t-refused"), rate(perSecond(true)));
  $("t-refused").classList.toggle("bad", perSecond(true) > perSecond(false) && perSecond(true) >= 1);

  const { backends } = status;
  const tally = states.map((state) => [state, backends.filter((b) => b.state === state).length]);
  const down = tally.find(([state]) => state === "down")[1];
  put($("t-backends"), count(backends.length));
  $("t-backends").classList.toggle("bad", down > 0);
  put($("t-states"), tally.filter(([, n]) => n).map(([state, n]) => `${n} ${state}`).join(", ") || "none used yet");
  put($("n-backends"), plural(backends.length, "backend"));
  const rank = (b) => ({ down: 0, suspect: 1 })[b.state] ?? 2;
  const sorted = [...backends].sort((a, b) => rank(a) - rank(b) || b.sessions - a.sessions || a.address.localeCompare(b.address));
  rows("backends", sorted, (b) => [b.address, b.protocol, b.implicit_tls, b.source].join(" "), backendColumns, "No backend has been used yet.");
  drawHealth(status);
};

const backendColumns = [
  { style: "user", fill: (cell, b) => value(cell, b.address, [b.protocol, b.implicit_tls && "TLS", b.source && `from ${b.source}`].filter(Boolean).join(", ")) },
  { label: "State", fill: (cell, b) => {
    const since = b.failing_for === null || b.failing_for === undefined ? "" : `for ${time(b.failing_for)}`;
    value(cell, b.state, since);
    const word = cell.firstElementChild;
    word.className = "state";
    word.dataset.state = b.state;
  } },
  { label: "Sessions", style: "num", fill: (cell, b) => value(cell, count(b.sessions)) },
  { label: "Connecting", style: "num", fill: (cell, b) => value(cell, count(b.connecting), b.waiting ? `+ ${count(b.waiting)} waiting` : "") },
  { label: "Trouble", fill: (cell, b) => value(cell, b.error ?? "") },
  { style: "orders", fill: (cell, b) => button(cell, "Kick all", `Kick all sessions of backend ${b.address}`,
    () => kick({ backend: b.address }, `all sessions of backend ${b.address}`, `Everybody who is relayed to ${b.address} is told goodbye and disconnected.`)) },
];

const drawHealth = (status) => {
  const items = [
    ...status.limits.map((one) => ({ key: `l ${one.name}`, what: one.name, sub: one.fullest ?? "", percent: one.percent,
      text: `${count(one.used)} of ${count(one.limit)}`, style: one.percent >= 95 ? "bad" : one.percent >= 80 ? "warn" : "" })),
    ...status.lookups.map((one) => ({ key: `d ${one.database}`, what: `users "${one.database}"`, sub: plural(one.count, "lookup"),
      text: one.p99 === null ? "not asked lately" : `p99 ${latency(one.p99)}`, style: "" })),
    ...status.certificates.map((one) => ({ key: `c ${one.file} ${one.name}`, what: one.name ?? one.file ?? "", sub: "certificate",
      text: one.days === null ? "unknown" : one.days < 0 ? "expired" : plural(one.days, "day"),
      style: one.days === null ? "" : one.days < 7 ? "bad" : one.days < 21 ? "warn" : "" })),
  ];
  rows("health", items, (one) => one.key, [
    { style: "user", fill: (cell, one) => value(cell, one.what, one.sub) },
    { fill: (cell, one) => (one.percent === undefined ? cell.classList.add("blank") : meter(cell, one.percent, one.style)) },
    { style: "num", fill: (cell, one) => {
      value(cell, one.text);
      cell.firstElementChild.className = one.style;
    } },
  ], "No limits.");
};

const drawFailures = ({ failures, names, users }) => {
  put($("t-failures"), `${count(failures)} in the last hour`);
  put($("n-failures"), failures ? `${plural(failures, "login")}, ${plural(names, "name")}` : "");
  rows("failures", users, (one) => one.user, [
    { style: "user", fill: (cell, one) => value(cell, one.user) },
    { label: "Failed", style: "num", fill: (cell, one) => value(cell, count(one.failures)) },
    { label: "Last reason", fill: (cell, one) => value(cell, one.reason, one.protocol) },
    { label: "Last client", fill: (cell, one) => value(cell, one.client) },
    { label: "Ago", style: "num", fill: (cell, one) => value(cell, time(one.ago)) },
  ], "No login has failed.");
};

const drawSessions = ({ sessions, total }) => {
  const found = $("find").value.trim() !== "";
  put($("n-sessions"), total > sessions.length ? `the newest ${sessions.length} of ${count(total)}` : plural(total, "connection"));
  rows("sessions", [...sessions].sort((a, b) => b.number - a.number), (one) => `${one.pid} ${one.number}`, sessionColumns, found ? "Nobody has such a name." : "Nobody is connected.");
};

const sessionColumns = [
  { style: "user", fill: (cell, s) => {
    value(cell, s.user ?? "not signed in", s.destuser && s.destuser !== s.user ? `as ${s.destuser}` : "");
    cell.classList.toggle("quiet", !s.user);
  } },
  { label: "Protocol", fill: (cell, s) => value(cell, s.protocol, s.tls === "none" || !s.tls ? "" : "TLS") },
  { label: "Client", fill: (cell, s) => value(cell, s.client) },
  { label: "Backend", fill: (cell, s) => value(cell, s.backend ?? (s.state === "talking" ? "" : s.state)) },
  { label: "For", style: "num", fill: (cell, s) => value(cell, time(s.age)) },
  { label: "Idle", style: "num", fill: (cell, s) => value(cell, s.state === "relayed" ? time(s.idle) : "") },
  { label: "Octets in, out", style: "num", fill: (cell, s) => value(cell, s.state === "relayed" ? `${octets(s.to_backend)}, ${octets(s.to_client)}` : "") },
  { style: "orders", fill: (cell, s) => {
    const whom = s.user ? `all connections of ${spelled(s.user)}` : `the connection from ${s.client}`;
    button(cell, "Kick", `Kick ${whom}`, () => kick(s.user ? { user: s.user, exact: 1 } : { session: s.session }, whom, "They are told goodbye and disconnected within a second."));
  } },
];

// ---- Orders ----

const sure = (title, about, word, canHold) => new Promise((decide) => {
  const dialog = $("confirm");
  put($("h-confirm"), title);
  put($("about"), about);
  put($("yes"), word);
  $("holding").hidden = !canHold;
  $("hold").checked = false;
  dialog.returnValue = "no";
  dialog.addEventListener("close", () => decide(dialog.returnValue === "yes"), { once: true });
  dialog.showModal();
  $("no").focus();
});

const order = async (does) => {
  try {
    say(await does());
  } catch (e) {
    if (e instanceof TokenWanted) return wantToken("The token does not count any more.");
    say(e instanceof Unanswered ? "The server did not answer: look before you order it again." : e.message, true);
  }
  refresh();
};

const kick = (whom, words, about) => order(async () => {
  const { kicked: meant } = await ask(`/v1/kick?${query({ ...whom, dry_run: 1 })}`, "POST");
  const holds = "user" in whom || "backend" in whom;
  if (!(await sure(`Kick ${words}?`, `${plural(meant, "connection")} now. ${about}`, "Kick", holds))) return "";
  const hold = holds && $("hold").checked ? { hold: "60s" } : {};
  const { kicked, held } = await ask(`/v1/kick?${query({ ...whom, ...hold })}`, "POST");
  return `${plural(kicked, "connection")} kicked${held ? `, logins wait for ${held} s` : ""}`;
});

const drain = () => order(async () => {
  const on = $("phase").dataset.phase !== "draining";
  const about = on
    ? "Balancers that look at /readyz are told to send nobody here any more. Whoever comes is served all the same, and nobody is disconnected."
    : "Balancers that look at /readyz may send clients here again.";
  if (!(await sure(on ? "Drain this server?" : "End the drain?", about, on ? "Drain" : "End drain", false))) return "";
  await ask(`/v1/drain?${query({ on: on ? 1 : 0 })}`, "POST");
  return on ? "Draining: balancers are told to go elsewhere" : "Serving again";
});

let hush;
const say = (text, failed = false) => {
  if (text === "") return;
  put($("said"), text);
  $("said").classList.toggle("failed", failed);
  clearTimeout(hush);
  hush = setTimeout(() => put($("said"), ""), failed ? 10000 : 4000);
};

// ---- Going on ----

let timer, busy = false, again = false, lost = null;

const phase = (word) => {
  $("phase").dataset.phase = word;
  put($("phase"), word);
};

const wantToken = (why) => {
  token = null;
  sessionStorage.removeItem(KEY);
  clearTimeout(timer);
  $("confirm").close();
  $("house").hidden = $("drain").hidden = $("forget").hidden = true;
  $("door").hidden = false;
  phase("unknown");
  put($("phase"), "locked");
  put($("uptime"), "");
  put($("seen"), "");
  // What was shown to the one who had the token is not left behind for the next.
  for (const body of document.querySelectorAll("tbody")) body.replaceChildren();
  Object.assign(past, { started: null, next: 0, samples: [] });
  put($("wrong"), why);
  $("token").value = "";
  $("token").focus();
};

/** Asks for everything once, shows it, and comes again. */
const refresh = async () => {
  if (busy) return void (again = true);
  clearTimeout(timer);
  if (document.hidden || !$("door").hidden) return;
  busy = true;
  const began = performance.now();
  try {
    const name = $("find").value.trim();
    const words = { limit: SHOWN, ...(name && { user: `*${name}*` }) };
    const [status, failures, sessions] = await Promise.all([
      ask("/v1/status"), ask("/v1/failures?limit=10"), ask(`/v1/sessions?${query(words)}`), remember(),
    ]);
    if (!$("door").hidden) return void (busy = again = false);
    lost = null;
    $("trouble").hidden = true;
    document.body.classList.remove("stale");
    $("house").hidden = false;
    $("forget").hidden = !token;
    drawStatus(status);
    drawTraffic();
    drawFailures(failures);
    drawSessions(sessions);
    drawPast();
    put($("seen"), `as of ${new Date().toLocaleTimeString()}`);
  } catch (e) {
    if (e instanceof TokenWanted) {
      busy = again = false;
      return wantToken(token ? "That is not the token." : "");
    }
    if (!(e instanceof Unanswered)) console.error(e);
    lost ??= new Date();
    document.body.classList.add("stale");
    phase("unreachable");
    $("trouble").hidden = false;
    put($("trouble"), e instanceof Unanswered
      ? `No answer from the server since ${lost.toLocaleTimeString()}. What is shown here is old. It is asked again every ${EVERY / 1000} seconds.`
      : `The server refuses: ${e.message}`);
  }
  busy = false;
  // A house so large that an answer takes long is asked less often.
  const took = performance.now() - began;
  timer = setTimeout(refresh, again ? 0 : Math.max(EVERY, 4 * took));
  again = false;
};

const drawTraffic = () => {
  const last = past.samples[past.samples.length - 1];
  const per = (n) => (last?.seconds ? n / last.seconds : 0);
  put($("t-traffic"), octets(per((last?.toBackend ?? 0) + (last?.toClient ?? 0))));
  put($("t-ways"), `${octets(per(last?.toBackend ?? 0))} in, ${octets(per(last?.toClient ?? 0))} out`);
};

$("door").addEventListener("submit", (e) => {
  e.preventDefault();
  token = $("token").value.trim();
  // A header takes no other characters, and no token has them.
  if (!/^[\x21-\x7e]+$/.test(token)) return wantToken("A token is one word of printable ASCII characters.");
  sessionStorage.setItem(KEY, token);
  put($("wrong"), "");
  $("door").hidden = true;
  refresh();
});
$("forget").addEventListener("click", () => wantToken("The token is forgotten."));
$("drain").addEventListener("click", drain);
$("find").addEventListener("input", () => refresh());
for (const id of ["span", "split"]) $(id).addEventListener("change", drawPast);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
