// Charts over time: lines or stacked areas, as SVG. They draw what they are given and keep nothing but what is under the cursor.
// All words are set as text.

const SVG = "http://www.w3.org/2000/svg";
const LEFT = 54, RIGHT = 6, TOP = 8, BOTTOM = 20;

const svg = (tag, attributes = {}, text) => {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
};

/** The next round number that four steps reach: 1, 2 or 5 times a power of ten. */
const step = (most, least) => {
  const rough = Math.max(most / 4, least);
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
};

const ago = (seconds) => {
  if (seconds < 1) return "now";
  return seconds < 120 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
};

export class Chart {
  /** In a figure; `stacked`, and how its values are written; `least` is the smallest step between two grid lines. */
  constructor(figure, { stacked = false, write = String, least = 0.25, what = "" }) {
    Object.assign(this, { figure, stacked, write, least, what, data: null, at: null });
    this.svg = svg("svg", { role: "img", tabindex: "0" });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    this.tip = document.createElement("div");
    this.tip.className = "tip";
    this.tip.hidden = true;
    figure.append(this.svg, this.legend, this.tip);
    new ResizeObserver(() => this.paint()).observe(this.svg);
    this.svg.addEventListener("pointermove", (e) => this.point(this.nearest(e.clientX - this.svg.getBoundingClientRect().left)));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (e) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
      if (e.key === "Escape") this.point(null);
      if (!way || !this.data) return;
      e.preventDefault();
      const last = this.data.times.length - 1;
      this.point(this.at === null ? last : Math.min(last, Math.max(this.first(), this.at + way)));
    });
  }

  /** Times in seconds, rising; for each series its name, class and a value per time; the span of time that is shown. */
  draw(data) {
    this.data = data;
    this.paint();
  }

  first() {
    const { times, span } = this.data;
    const from = times[times.length - 1] - span;
    return Math.max(0, times.findIndex((t) => t >= from));
  }

  paint() {
    const { svg: box, data } = this;
    const width = box.clientWidth, height = box.clientHeight;
    if (!data || width < 80) return;
    box.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const { times, series, span, every } = data;
    const first = times.length ? this.first() : 0;
    const end = times[times.length - 1] ?? 0;
    const sums = times.map((_, i) => series.reduce((sum, one) => (this.stacked ? sum + one.values[i] : Math.max(sum, one.values[i])), 0));
    const most = Math.max(0, ...sums.slice(first));
    const rung = step(most, this.least);
    const top = Math.max(rung, Math.ceil(most / rung - 0.001) * rung);
    const x = (t) => LEFT + (1 - (end - t) / span) * (width - LEFT - RIGHT);
    const y = (v) => TOP + (1 - v / top) * (height - TOP - BOTTOM);
    this.x = x;

    const parts = [];
    for (let value = 0; value <= top * 1.001; value += rung) {
      const at = Math.round(y(value)) + 0.5;
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: at, y2: at }));
      parts.push(svg("text", { x: LEFT - 8, y: at + 4, "text-anchor": "end" }, this.write(value)));
    }
    const marks = width > 480 ? 5 : 2;
    for (let n = 0; n <= marks; n++) {
      const back = (span * (marks - n)) / marks;
      const anchor = n === 0 ? "start" : n === marks ? "end" : "middle";
      parts.push(svg("text", { x: x(end - back), y: height - 4, "text-anchor": anchor }, back ? `−${back / 60} min` : "now"));
    }
    if (times.length - first < 2) {
      parts.push(svg("text", { class: "empty", x: (width + LEFT) / 2, y: (height - BOTTOM) / 2, "text-anchor": "middle" }, "nothing measured yet"));
    } else {
      parts.push(this.shapes(first, x, y, every * 3));
    }
    box.replaceChildren(...parts);
    this.keys();
    this.point(this.at !== null && this.at < times.length ? this.at : null);
  }

  /** Areas and lines; a pause longer than `gap` stays empty. */
  shapes(first, x, y, gap) {
    const { times, series } = this.data;
    const runs = [];
    for (let i = Math.max(0, first - 1); i < times.length; i++) {
      if (!runs.length || times[i] - times[i - 1] > gap) runs.push([]);
      runs[runs.length - 1].push(i);
    }
    const clip = svg("svg", { x: LEFT, y: 0, width: this.svg.clientWidth - LEFT - RIGHT, height: this.svg.clientHeight });
    const group = svg("g", { transform: `translate(${-LEFT} 0)`, class: this.stacked ? "stacked" : "" });
    clip.append(group);
    const below = times.map(() => 0);
    for (const { style, values } of series) {
      let area = "", line = "";
      const over = values.map((value, i) => (this.stacked ? below[i] : 0) + value);
      for (const run of runs) {
        const spot = (list) => (i) => `${x(times[i]).toFixed(1)} ${y(list[i]).toFixed(1)}`;
        const upper = run.map(spot(over)).join("L");
        line += `M${upper}`;
        area += `M${upper}L${[...run].reverse().map(spot(below)).join("L")}Z`;
      }
      group.append(svg("path", { class: `area ${style}`, d: area }), svg("path", { class: `line ${style}`, d: line }));
      if (this.stacked) over.forEach((value, i) => { below[i] = value; });
    }
    return clip;
  }

  keys() {
    const { series, times } = this.data;
    const last = times.length - 1;
    const items = series.map((one) => {
      const item = document.createElement("li");
      item.append(...pair(one, last < 0 ? "–" : this.write(one.values[last])));
      return item;
    });
    this.legend.replaceChildren(...items);
    const now = series.map((one) => `${one.name} ${last < 0 ? "unknown" : this.write(one.values[last])}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.what} over the last ${this.data.span / 60} minutes. Now: ${now || "nothing"}. Arrow keys walk through time.`);
  }

  nearest(px) {
    if (!this.data || !this.x || this.data.times.length < 2) return null;
    const { times } = this.data;
    let best = null, least = Infinity;
    for (let i = this.first(); i < times.length; i++) {
      const far = Math.abs(this.x(times[i]) - px);
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  /** Shows what was at one time. */
  point(at) {
    this.at = at;
    this.svg.querySelector(".cursor")?.remove();
    this.tip.hidden = at === null;
    if (at === null) return;
    const { times, series } = this.data;
    const px = this.x(times[at]), height = this.svg.clientHeight;
    this.svg.append(svg("line", { class: "cursor", x1: px, x2: px, y1: TOP, y2: height - BOTTOM }));
    const when = document.createElement("p");
    when.className = "when";
    when.textContent = `${new Date(times[at] * 1000).toLocaleTimeString()}, ${ago(times[times.length - 1] - times[at])}`;
    const lines = series.map((one) => {
      const line = document.createElement("p");
      line.append(...pair(one, this.write(one.values[at])));
      return line;
    });
    this.tip.replaceChildren(when, ...lines);
    const room = this.figure.clientWidth - this.tip.offsetWidth - 8;
    const left = px + this.svg.offsetLeft;
    this.tip.style.left = `${Math.max(8, left + 12 > room ? Math.min(room, left - this.tip.offsetWidth - 12) : left + 12)}px`;
  }
}

const pair = ({ name, style }, value) => {
  const key = document.createElement("span");
  key.className = `key ${style}`;
  const word = document.createElement("bdi");
  word.textContent = name;
  const number = document.createElement("b");
  number.textContent = value;
  return [key, word, number];
};
