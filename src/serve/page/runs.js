// The view of runs in training: sample images by step, and curves, as the files of a run grow.

import { ApiError, hasKey, request } from "./api.js";
import { make, number } from "./results.js";

const element = (id) => document.getElementById(id);
const refreshMs = 2000;
const cachedImages = 64;

/** Fetches what may have changed: null if it has not since the last call with this map of etags. */
async function fetchChanged(path, etags) {
  const etag = etags.get(path);
  const response = await request(path, { cache: "no-store", headers: etag ? { "if-none-match": etag } : {} });
  if (response.status === 304) return null;
  etags.set(path, response.headers.get("etag"));
  return response.json();
}

function ago(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return seconds < 129600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} days ago`;
}

/** SVG of the server as an element. As a document of its own, it could not run scripts in this one. */
function svgElement(text) {
  return document.importNode(new DOMParser().parseFromString(text, "text/html").querySelector("svg"), true);
}

/** A chart, and the values of its curves: the last ones, or those of the step under the pointer. */
function chartFigure({ name, series, svg }) {
  const chart = svgElement(svg), values = make("b");
  const written = (points) => points.map(([, y], index) => {
    const value = y.toLocaleString("en-US", { maximumSignificantDigits: 5 });
    return series.length > 1 ? `${series[index].name} ${value}` : value;
  }).join(", ");
  const showLast = () => { values.textContent = written(series.map(({ points }) => points.at(-1))); };
  showLast();
  chart.ariaLabel = `${name}: ${values.textContent}`;
  const axis = chart.querySelector("line.axis");  // the horizontal one: from the first step to the last
  const cursor = document.createElementNS(chart.namespaceURI, "line");
  for (const [attribute, value] of [["class", "cursor"], ["y1", 0], ["y2", axis?.getAttribute("y1")]]) cursor.setAttribute(attribute, value);
  const steps = series.flatMap(({ points }) => points.map(([x]) => x));
  const first = Math.min(...steps), last = Math.max(...steps);
  const showAt = (event) => {
    const box = chart.getBoundingClientRect();
    const [left, right] = ["x1", "x2"].map((end) => Number(axis.getAttribute(end)));
    const x = ((event.clientX - box.left) * chart.viewBox.baseVal.width) / box.width;
    const step = first + ((x - left) / (right - left)) * (last - first);
    const nearest = series.map(({ points }) => points.reduce((a, b) => (Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a)));
    const at = left + ((nearest[0][0] - first) / (last - first)) * (right - left);
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, at);
    chart.append(cursor);
    values.textContent = `step ${number(nearest[0][0])}: ${written(nearest)}`;
  };
  if (axis && last > first) {
    chart.addEventListener("pointermove", showAt);
    chart.addEventListener("pointerleave", () => {
      cursor.remove();
      showLast();
    });
  }
  return make("figure", {}, make("figcaption", {}, make("span", { textContent: name }), values), chart);
}

/** The images of one kind, such as reconstructions, with a slider over their steps. */
class SampleSlider {
  constructor(path, kind, urls) {
    this.path = path;
    this.urls = urls;
    this.samples = [];
    this.follows = true;
    this.slider = make("input", { type: "range", min: 0, step: 1, ariaLabel: `Step of the ${kind}` });
    this.label = make("output");
    this.newest = make("button", { type: "button", className: "link", textContent: "Newest" });
    this.image = make("img", { alt: "", className: "samples" });
    this.captions = make("div", { className: "row-captions" });
    this.slider.addEventListener("input", () => {
      this.follows = Number(this.slider.value) === this.samples.length - 1;
      this.show();
    });
    this.newest.addEventListener("click", () => {
      this.follows = true;
      this.slider.value = this.samples.length - 1;
      this.show();
    });
    this.image.addEventListener("load", () => {
      const { naturalWidth } = this.image, scale = Math.max(1, Math.min(4, Math.floor(640 / naturalWidth)));
      this.image.style.width = `${naturalWidth * scale}px`;
    });
    this.root = make("figure", { className: "slider" },
      make("figcaption", {}, make("b", { textContent: kind }), this.label, this.newest), this.slider,
      make("div", { className: "labeled" }, this.captions, this.image));
  }

  update(samples, captions) {
    this.samples = samples;
    this.slider.max = samples.length - 1;
    if (this.follows) this.slider.value = samples.length - 1;
    this.slider.hidden = samples.length < 2;
    this.captions.replaceChildren(...captions.map((caption) => make("span", { textContent: caption, title: caption })));
    this.show();
  }

  async show() {
    const { step, file } = this.samples[Number(this.slider.value)];
    this.label.textContent = `step ${number(step)}`;
    this.slider.ariaValueText = `step ${number(step)}`;
    this.newest.hidden = this.follows;
    this.shown = file;
    try {
      const url = await this.urlOf(file);
      if (this.shown !== file) return;  // the slider has moved on
      this.image.src = url;
      this.image.alt = `${this.path.split("/").pop()} at step ${step}`;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (this.shown === file) this.label.textContent = `step ${number(step)}: no longer available`;
    }
  }

  /** Images are fetched rather than linked, because links cannot carry an API key. */
  async urlOf(file) {
    const path = `${this.path}/${encodeURIComponent(file)}`;
    if (!this.urls.has(path)) {
      const url = URL.createObjectURL(await (await request(path)).blob());
      this.urls.set(path, url);
      while (this.urls.size > cachedImages) {
        const [oldest, its] = this.urls.entries().next().value;
        URL.revokeObjectURL(its);
        this.urls.delete(oldest);
      }
    }
    return this.urls.get(path);
  }
}

export class RunView {
  constructor() {
    this.etags = new Map();
    this.urls = new Map();
    this.run = null;
    this.stage = null;  // null: the one that wrote last
    this.sliders = new Map();
    this.isShown = false;
    element("run").addEventListener("change", (event) => { location.hash = `training/${encodeURIComponent(event.target.value)}`; });
    element("run-report").addEventListener("click", (event) => hasKey() && this.downloadReport(event));
    document.addEventListener("visibilitychange", () => this.refresh());
  }

  /** @param id  of the run; empty: the one that wrote last */
  open(id) {
    if (id !== this.wanted) {
      this.wanted = id;
      this.forget();
    }
    this.isShown = true;
    this.refresh();
  }

  close() {
    this.isShown = false;
    clearTimeout(this.timer);
  }

  forget() {
    this.run = this.stage = null;
    this.etags.clear();
    this.sliders.clear();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls.clear();
    for (const id of ["run-stages", "run-images", "run-charts"]) element(id).replaceChildren();
    for (const id of ["run-stages", "run-report"]) element(id).hidden = true;
    element("run-line").textContent = "";
  }

  async refresh() {
    clearTimeout(this.timer);
    if (!this.isShown || document.hidden || this.isRefreshing) return;
    this.isRefreshing = true;
    try {
      await this.read();
      element("run-error").hidden = true;
    } catch (error) {
      if (!(error instanceof ApiError)) console.error(error);
      element("run-error").textContent = error.message;
      element("run-error").hidden = false;
      if (error.status === 401) this.isShown = false;  // who declines to enter a key is not asked again
    }
    this.isRefreshing = false;
    if (this.isShown) this.timer = setTimeout(() => this.refresh(), refreshMs);
  }

  async read() {
    const list = await fetchChanged("/v1/runs", this.etags);
    if (list) this.showList(list.data);
    const id = this.wanted || this.newest;
    if (!id) return;
    element("run").value = id;
    const path = `/v1/runs/${encodeURIComponent(id)}`;
    if (this.run?.id !== id) this.etags.delete(path);
    const run = await fetchChanged(path, this.etags);
    if (id !== (this.wanted || this.newest)) return;
    if (run) {
      if (this.run && this.run.id !== run.id) this.sliders.clear();
      this.run = run;
      this.show();
    }
    this.showLine();
  }

  showList(runs) {
    this.newest = runs[0]?.id;
    const names = new Set(runs.map((run) => run.id));
    if (this.wanted) names.add(this.wanted);
    element("run").replaceChildren(...[...names].map((id) => make("option", { value: id, textContent: id })));
    element("run").disabled = names.size === 0;
    element("run-note").textContent = names.size ? "" : "There are no runs in the folder yet. This page looks again every two seconds.";
  }

  showLine() {
    const { stages, updated } = this.run;
    const last = stages.at(-1);
    const parts = last ? [last.step == null ? last.stage : `${last.stage}, step ${number(last.step)}`] : ["nothing logged yet"];
    if (updated) parts.push(`updated ${ago(Date.now() / 1000 - updated)}`);
    element("run-line").textContent = parts.join(" · ");
  }

  show() {
    const { id, stages, has_report: hasReport } = this.run;
    const stage = stages.find((one) => one.stage === this.stage) ?? stages.at(-1);
    element("run-stages").hidden = stages.length < 2;
    const names = [...element("run-stages").children].map((button) => button.textContent);
    if (names.join() !== stages.map((one) => one.stage).join())
      element("run-stages").replaceChildren(...stages.map((one) => {
        const button = make("button", { type: "button", textContent: one.stage });
        button.addEventListener("click", () => {
          this.stage = one.stage;
          this.show();
        });
        return button;
      }));
    for (const button of element("run-stages").children) button.ariaPressed = String(button.textContent === stage?.stage);
    Object.assign(element("run-report"), { hidden: !hasReport, href: `/v1/runs/${encodeURIComponent(id)}/report.html`, target: "_blank", rel: "noopener" });
    if (stage) this.showStage(id, stage);
  }

  showStage(id, { stage, images, charts }) {
    const shown = images.map(({ kind, samples }) => {
      const path = `/v1/runs/${encodeURIComponent(id)}/images/${encodeURIComponent(stage)}`;
      const key = `${path}/${kind}`;
      if (!this.sliders.has(key)) this.sliders.set(key, new SampleSlider(path, kind, this.urls));
      const slider = this.sliders.get(key);
      slider.update(samples, stage === "dalle" ? this.run.captions : []);
      return slider.root;
    });
    // Elements that stay are not replaced: a slider that moves would lose its focus.
    const now = [...element("run-images").children];
    if (shown.length !== now.length || shown.some((root, index) => root !== now[index]))
      element("run-images").replaceChildren(...shown);
    element("run-charts").replaceChildren(...charts.map(chartFigure));
  }

  /** A link cannot carry the API key, so the report is fetched and saved. */
  async downloadReport(event) {
    event.preventDefault();
    const link = event.currentTarget;
    try {
      const url = URL.createObjectURL(await (await request(link.getAttribute("href"))).blob());
      make("a", { href: url, download: `${this.run.id}-report.html` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60000);
    } catch (error) {
      element("run-error").textContent = error.message;
      element("run-error").hidden = false;
    }
  }
}
