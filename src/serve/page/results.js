// The images of a generation: a grid of captions, and one image with all that reproduces it.

import { fileName, sampleCommand } from "./captions.js";

const element = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function blobOf(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

export function number(value) {
  return Number(value).toLocaleString("en-US", { maximumFractionDigits: 4 });
}

/** Of a reranker: a cosine, or bits. */
function scoreText(score) {
  return score.toLocaleString("en-US", { maximumSignificantDigits: 4 });
}

/** Places for the images of a generation, which are filled while they arrive. */
export class ResultsGrid {
  /** @param open  called with (generation, cell, slot) when an image is selected */
  constructor(generation, open) {
    this.generation = generation;
    this.open = open;
    this.urls = [];
    this.slots = generation.cells.map((cell, index) =>
      Array.from({ length: generation.count }, (_, slot) => this.makeSlot(cell, index, slot)));
    this.root = generation.rows.length > 1 || generation.columns.length > 1 ? this.makeTable() : this.makeImages(0);
    this.setSize();
    generation.cells.forEach((cell, index) => cell.images.forEach((image, slot) => image && this.show(index, slot)));
  }

  /** Few images are shown large. Pixels become whole numbers of pixels, or parts of one. */
  setSize() {
    const { cells, count, model: { imageSize = 256 } } = this.generation;
    const wanted = cells.length * count > 12 || innerWidth < 600 ? 128 : cells.length > 1 ? 160 : 192;
    const size = imageSize <= wanted ? Math.floor(wanted / imageSize) * imageSize : imageSize / Math.ceil(imageSize / wanted);
    this.root.style.setProperty("--size", `${size}px`);
    this.root.classList.toggle("pixelated", size > imageSize);
  }

  makeSlot(cell, index, slot) {
    const image = make("img", { alt: "", decoding: "async", hidden: true });
    const button = make("button", { type: "button", className: "image waiting", disabled: true, ariaLabel: `${cell.caption}, waiting` }, image);
    button.addEventListener("click", () => this.open(this.generation, index, slot));
    return make("figure", {}, button, make("figcaption"));
  }

  makeImages(index) {
    return make("div", { className: "images" }, ...this.slots[index]);
  }

  makeTable() {
    const { rows, columns } = this.generation;
    const head = columns.length > 1
      ? [make("thead", {}, make("tr", {}, make("td"), ...columns.map((name) => make("th", { scope: "col", textContent: name || "(nothing)" }))))]
      : [];
    const body = make("tbody", {}, ...rows.map((name, row) => make("tr", {},
      make("th", { scope: "row", textContent: name }),
      ...columns.map((_, column) => make("td", {}, this.makeImages(row * columns.length + column))))));
    return make("div", { className: "scroll", tabIndex: 0, role: "group", ariaLabel: "Grid of captions" },
                make("table", { className: "grid" }, ...head, body));
  }

  parts(index, slot) {
    const figure = this.slots[index][slot];
    return { button: figure.firstChild, image: figure.firstChild.firstChild, caption: figure.lastChild };
  }

  preview(index, slot, base64) {
    if (slot >= this.generation.count) return;  // a candidate that may not be kept
    const { button, image } = this.parts(index, slot);
    image.src = `data:image/png;base64,${base64}`;
    image.hidden = false;
    button.classList.add("previewed");
  }

  /** Shows a complete image of the generation. */
  show(index, slot) {
    const { caption: text, images } = this.generation.cells[index];
    const { blob, image: nth, score } = images[slot];
    const { button, image, caption } = this.parts(index, slot);
    const url = URL.createObjectURL(blob);
    this.urls.push(url);
    image.src = url;
    image.hidden = false;
    button.className = "image";
    button.disabled = false;
    button.ariaLabel = `${text}, image ${nth}${score == null ? "" : `, score ${scoreText(score)}`}`;
    caption.textContent = score == null ? "" : scoreText(score);
    caption.title = score == null ? "" : "Reranker score; higher is a better match";
  }

  /** Marks the places that stay empty. */
  stop() {
    for (const figure of this.slots.flat()) {
      const button = figure.firstChild;
      if (!button.disabled) continue;
      button.classList.remove("waiting");
      button.classList.add("missing");
      button.ariaLabel = "not generated";
    }
  }

  release() {
    this.urls.forEach((url) => URL.revokeObjectURL(url));
  }
}

function factsOf(generation, { image, score }, slot) {
  const { model, seed, count, bestOf, sampling, prompt, time } = generation;
  const facts = [["Image", `${image} of seed ${seed}`]];
  if (score != null) facts.push(["Score", `${scoreText(score)}, place ${slot + 1} of ${bestOf || count}`]);
  facts.push(["Sampling", `temperature ${number(sampling.temperature)}, top-k ${sampling.top_k || "off"}, ` +
                          `top-p ${sampling.top_p >= 1 ? "off" : number(sampling.top_p)}, ` +
                          `guidance ${sampling.guidance === 1 ? "off" : number(sampling.guidance)}`]);
  if (bestOf && model.reranker) facts.push(["Ranked by", model.reranker.slice(0, 21)]);
  if (prompt) {
    const kept = prompt.keep ? `keeps ${prompt.keep}` : prompt.keepRows != null ? `keeps ${Math.round(100 * prompt.keepRows)}% of the rows` : "keeps all";
    facts.push(["Image prompt", `${prompt.name}: ${kept}` +
                (prompt.variation ? `, varies ${Math.round(100 * prompt.variation)}%` : "") + (prompt.paste ? ", original pasted" : "")]);
  }
  facts.push(["Model", model.step == null ? model.id : `${model.id}, step ${number(model.step)}`]);
  if (model.manifest) facts.push(["Checkpoint hash", model.manifest.slice(0, 16)]);
  facts.push(["Time", new Date(time).toLocaleString()]);
  return facts;
}

/** The dialog with an image and what reproduces it. */
export class Detail {
  /** @param actions  {reuse(generation), prompt(file)} */
  constructor(actions) {
    const dialog = element("detail");
    element("detail-close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", ({ target, clientX, clientY }) => {
      const { left, right, top, bottom } = dialog.getBoundingClientRect();
      const isOutside = clientX < left || clientX > right || clientY < top || clientY > bottom;
      if (target === dialog && isOutside) dialog.close();
    });
    dialog.addEventListener("keydown", (event) => this.pressKey(event));
    dialog.addEventListener("close", () => URL.revokeObjectURL(this.url));
    element("detail-copy").addEventListener("click", () => this.copy());
    element("detail-reuse").addEventListener("click", () => {
      dialog.close();
      actions.reuse(this.generation);
    });
    element("detail-prompt").addEventListener("click", () => {
      dialog.close();
      const { blob } = this.image();
      actions.prompt(new File([blob], this.fileName(), { type: blob.type }));
    });
  }

  image() {
    return this.generation.cells[this.cell].images[this.slot];
  }

  fileName() {
    return fileName(this.generation.cells[this.cell].caption, this.generation.seed, this.image().image);
  }

  open(generation, cell, slot) {
    Object.assign(this, { generation, cell, slot });
    const { caption } = generation.cells[cell], image = this.image();
    URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(image.blob);
    element("detail-caption").textContent = caption;
    const shown = element("detail-image");
    shown.src = this.url;
    shown.alt = `${caption}, image ${image.image}`;
    element("detail-facts").replaceChildren(...factsOf(generation, image, slot).flatMap(([name, value]) =>
      [make("dt", { textContent: name }), make("dd", { textContent: value })]));
    element("detail-command").textContent = sampleCommand(generation, caption);
    element("detail-copy").textContent = "Copy command";
    Object.assign(element("detail-download"), { href: this.url, download: this.fileName() });
    if (!element("detail").open) element("detail").showModal();
  }

  /** Left and right show the previous and the next image. */
  pressKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.target === element("detail-command")) return;
    const all = this.generation.cells.flatMap((cell, index) =>
      cell.images.map((image, slot) => image && { index, slot }).filter(Boolean));
    const now = all.findIndex(({ index, slot }) => index === this.cell && slot === this.slot);
    const next = all[now + step];
    if (next) this.open(this.generation, next.index, next.slot);
  }

  async copy() {
    const command = element("detail-command");
    try {
      await navigator.clipboard.writeText(command.textContent);
      element("detail-copy").textContent = "Copied";
    } catch {
      // Without https, browsers may refuse: then the text is selected, to be copied by hand.
      getSelection().selectAllChildren(command);
      element("detail-copy").textContent = "Selected: press Ctrl+C";
    }
  }
}
