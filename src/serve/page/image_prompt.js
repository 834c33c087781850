// The image prompt: an image that is dropped, pasted or chosen, and what to keep of it.

const element = (id) => document.getElementById(id);
const corners = ["nw", "ne", "sw", "se"];

/** A rectangle between two corners, in whole cells inside the image. */
function between(a, b, size, cell) {
  const snap = (value) => Math.max(0, Math.min(size, Math.round(value / cell) * cell));
  const [left, right] = [snap(Math.min(a.x, b.x)), snap(Math.max(a.x, b.x))];
  const [top, bottom] = [snap(Math.min(a.y, b.y)), snap(Math.max(a.y, b.y))];
  const x = Math.min(left, size - cell), y = Math.min(top, size - cell);
  return { x, y, width: Math.max(cell, right - x), height: Math.max(cell, bottom - y) };
}

export class ImagePrompt {
  /** @param onError  called with words about files that cannot be read */
  constructor(onError) {
    this.onError = onError;
    this.file = null;
    this.bitmap = null;
    this.size = 64;
    this.cell = 8;
    this.rectangle = null;
    this.listen();
  }

  /** The image is shown as the model sees it: cropped to a square of `size` pixels, of cells that have a code each. */
  setModel(size, cell) {
    if (size === this.size && cell === this.cell) return;
    this.size = size;
    this.cell = cell;
    this.rectangle = null;
    this.draw();
  }

  listen() {
    element("prompt-file").addEventListener("change", (event) => {
      this.take(event.target.files[0]);
      event.target.value = "";
    });
    element("prompt-remove").addEventListener("click", () => {
      this.remove();
      element("prompt-file").focus();
    });
    document.addEventListener("dragover", (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      element("drop-zone").classList.add("over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) element("drop-zone").classList.remove("over");
    });
    document.addEventListener("drop", (event) => {
      element("drop-zone").classList.remove("over");
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.take(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
      if (!file) return;
      event.preventDefault();
      this.take(file);
    });
    for (const choice of document.getElementsByName("keep"))
      choice.addEventListener("change", () => this.draw());
    for (const id of ["keep-rows", "variation"]) element(id).addEventListener("input", () => this.draw());
    for (const id of ["keep-x", "keep-y", "keep-width", "keep-height"])
      element(id).addEventListener("change", () => this.takeNumbers());
    const stage = element("prompt-stage");
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("keydown", (event) => this.pressKey(event));
  }

  async take(file, name = file.name) {
    try {
      this.bitmap = await createImageBitmap(file);
    } catch {
      this.onError(`${name}: not an image that this browser can read.`);
      return;
    }
    this.file = file;
    this.name = name || "image.png";
    this.rectangle = null;
    element("prompt-options").hidden = false;
    element("drop-zone").classList.add("filled");
    element("prompt-button").textContent = "Choose another";
    this.draw();
  }

  remove() {
    this.file = this.bitmap = null;
    element("prompt-options").hidden = true;
    for (const input of element("rectangle-fields").querySelectorAll("input")) input.disabled = true;
    element("drop-zone").classList.remove("filled");
    element("prompt-button").textContent = "Choose an image";
    element("prompt-options").dispatchEvent(new Event("change", { bubbles: true }));
  }

  get mode() {
    return document.querySelector("[name=keep]:checked").value;
  }

  set mode(value) {
    document.querySelector(`[name=keep][value=${value}]`).checked = true;
    this.draw();
  }

  /** What a request needs; null without an image. */
  value() {
    if (!this.file) return null;
    const variation = Number(element("variation").value) / 100;
    const prompt = { file: this.file, name: this.name, variation,
                     paste: element("paste-original").checked && !element("paste-original").disabled };
    if (this.mode === "rows") prompt.keepRows = Number(element("keep-rows").value) / 100;
    if (this.mode === "rectangle") {
      const { x, y, width, height } = this.rectangle;
      prompt.keep = [x, y, width, height].join(",");
    }
    return prompt;
  }

  /** Shows the settings of a former prompt. */
  async restore(prompt) {
    await this.take(prompt.file, prompt.name);
    element("variation").value = 100 * prompt.variation;
    element("paste-original").checked = prompt.paste;
    if (prompt.keepRows != null) element("keep-rows").value = 100 * prompt.keepRows;
    if (prompt.keep) {
      const [x, y, width, height] = prompt.keep.split(",").map(Number);
      this.setRectangle({ x, y, width, height });
    }
    this.mode = prompt.keep ? "rectangle" : prompt.keepRows != null ? "rows" : "all";
  }

  draw() {
    if (!this.bitmap) return;
    const canvas = element("prompt-canvas"), { size, bitmap } = this;
    const side = Math.min(bitmap.width, bitmap.height);
    canvas.width = canvas.height = size;
    canvas.getContext("2d").drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2,
                                      side, side, 0, 0, size, size);
    const { mode } = this, rows = Number(element("keep-rows").value) / 100;
    if (!this.rectangle) {
      const half = Math.max(this.cell, Math.floor(size / 2 / this.cell) * this.cell);
      this.rectangle = { x: 0, y: 0, width: size, height: half };
      this.isDrawn = false;
    }
    const shown = { rows: { x: 0, y: 0, width: size, height: Math.round(rows * size) },
                    rectangle: this.rectangle, all: { x: 0, y: 0, width: size, height: size } }[mode];
    const frame = element("prompt-rectangle");
    frame.hidden = false;
    frame.classList.toggle("fixed", mode !== "rectangle");
    for (const [side_, value] of [["left", shown.x], ["top", shown.y], ["width", shown.width], ["height", shown.height]])
      frame.style[side_] = `${(100 * value) / size}%`;
    element("prompt-stage").classList.toggle("editable", mode === "rectangle");
    element("prompt-name").textContent = this.name;
    element("keep-rows-value").textContent = `${Math.round(100 * rows)}%`;
    const variation = Number(element("variation").value);
    element("variation-value").textContent = `${variation}%`;
    element("paste-original").disabled = variation > 0 || mode === "all";
    element("rows-field").hidden = mode !== "rows";
    element("rectangle-fields").hidden = mode !== "rectangle";
    for (const name of ["x", "y", "width", "height"]) {
      const input = element(`keep-${name}`);
      input.disabled = mode !== "rectangle";
      input.max = size;
      input.value = this.rectangle[name];
    }
    element("keep-hint").textContent = this.hint(shown);
    element("prompt-options").dispatchEvent(new Event("change", { bubbles: true }));
  }

  hint({ x, y, width, height }) {
    const { size, cell, mode } = this;
    const codes = (from, length) => Math.floor((from + length) / cell) - Math.ceil(from / cell);
    const kept = Math.max(0, codes(x, width)) * Math.max(0, codes(y, height)), all = (size / cell) ** 2;
    const variation = Number(element("variation").value);
    const varied = variation ? `; ${variation}% of them are regenerated` : "";
    if (mode === "all") return `All ${all} codes are kept${varied}.`;
    const text = `${kept} of ${all} codes are kept${varied}: those whose ${cell} × ${cell} pixels are all selected.`;
    if (mode !== "rectangle" || (x === 0 && y === 0 && width === size)) return text;
    return `${text} Codes before the rectangle are generated without seeing it.`;
  }

  setRectangle(rectangle) {
    this.rectangle = rectangle;
    this.isDrawn = true;  // until then, a press inside begins a rectangle
    this.draw();
  }

  takeNumbers() {
    const [x, y, width, height] = ["x", "y", "width", "height"].map((name) =>
      Math.round(Number(element(`keep-${name}`).value)) || 0);
    const left = Math.max(0, Math.min(this.size - 1, x)), top = Math.max(0, Math.min(this.size - 1, y));
    this.setRectangle({ x: left, y: top, width: Math.max(1, Math.min(this.size - left, width)),
                        height: Math.max(1, Math.min(this.size - top, height)) });
  }

  /** Moves the rectangle inside the image, or resizes it. */
  shift(start, dx, dy, isResized) {
    const { size, cell } = this;
    const limited = (value, low, high) => Math.max(low, Math.min(high, value));
    if (isResized)
      return { ...start, width: limited(start.width + dx, Math.min(cell, size - start.x), size - start.x),
               height: limited(start.height + dy, Math.min(cell, size - start.y), size - start.y) };
    return { ...start, x: limited(start.x + dx, 0, size - start.width), y: limited(start.y + dy, 0, size - start.height) };
  }

  pressKey(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (!move || this.mode !== "rectangle") return;
    event.preventDefault();
    this.setRectangle(this.shift(this.rectangle, move[0] * this.cell, move[1] * this.cell, event.shiftKey));
  }

  /** Follows the pointer: from a corner it resizes, inside it moves, elsewhere it draws a rectangle. */
  press(event) {
    if (this.mode !== "rectangle" || event.button !== 0) return;
    const stage = element("prompt-stage"), box = stage.getBoundingClientRect();
    const { size, cell } = this, pixel = size / box.width;
    const at = ({ clientX, clientY }) => ({ x: (clientX - box.left) * pixel, y: (clientY - box.top) * pixel });
    const start = at(event), { x, y, width, height } = this.rectangle;
    const reach = (event.pointerType === "touch" ? 22 : 10) * pixel;
    const near = (a, b) => Math.abs(a - b) <= reach;
    const corner = corners.find((name) => near(start.x, name.includes("e") ? x + width : x) &&
                                          near(start.y, name.includes("s") ? y + height : y));
    const isInside = start.x > x && start.x < x + width && start.y > y && start.y < y + height;
    const fixed = corner ? { x: corner.includes("e") ? x : x + width, y: corner.includes("s") ? y : y + height } : start;
    const isMoved = !corner && isInside && this.isDrawn;
    const original = this.rectangle;
    const steps = (distance) => Math.round(distance / cell) * cell;
    const follow = (move) => {
      const now = at(move);
      this.setRectangle(isMoved ? this.shift(original, steps(now.x - start.x), steps(now.y - start.y), false)
                                : between(fixed, now, size, cell));
    };
    const release = () => {
      stage.removeEventListener("pointermove", follow);
      for (const end of ["pointerup", "pointercancel"]) stage.removeEventListener(end, release);
    };
    stage.setPointerCapture(event.pointerId);
    stage.addEventListener("pointermove", follow);
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, release);
  }
}
