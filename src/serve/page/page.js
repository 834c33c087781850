// The page of dalle-serve: generating images, their history, and runs in training.

import { ApiError, generate, request, setKeyDialog } from "./api.js";
import { captionGrid, maxImages, parseTemplate } from "./captions.js";
import { addGeneration, clearGenerations, listGenerations, maxGenerations, removeGeneration } from "./history.js";
import { ImagePrompt } from "./image_prompt.js";
import { blobOf, Detail, make, number, ResultsGrid } from "./results.js";
import { RunView } from "./runs.js";

const element = (id) => document.getElementById(id);
const views = ["generate", "history", "training"];
const samplingFields = { temperature: "temperature", top_k: "top-k", top_p: "top-p", guidance: "guidance" };
const usualSampling = { temperature: 1, top_k: 0, top_p: 1, guidance: 1 };
const parallelRequests = 4;  // of the six connections that browsers open to a server

let models = [];
let choices = [];       // of the caption's alternatives: a number, or null for all
let parts = [];         // of the caption
let running = null;     // the AbortController of the generation in progress
let grid = null;        // the ResultsGrid that is shown
const prompt = new ImagePrompt(showError);
const runs = new RunView();
const detail = new Detail({
  reuse: reuseSettings,
  prompt: (file) => {
    location.hash = "generate";
    prompt.take(file);
  },
});

function showError(words) {
  element("error").textContent = words;
  element("error").hidden = !words;
}

// ---- views ---------------------------------------------------------------------------------------

/** The name of a run in an address, which may have been typed wrongly. */
function decodedName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showView() {
  const [name, id = ""] = location.hash.slice(1).split("/");
  const view = views.includes(name) ? name : views[0];
  for (const one of views) element(one).hidden = one !== view;
  for (const link of document.querySelectorAll("nav a"))
    if (link.hash === `#${view}`) link.ariaCurrent = "page";
    else link.removeAttribute("aria-current");
  document.title = view === "generate" ? "dalle" : `dalle: ${view}`;
  if (view === "history") showHistory();
  if (view === "training") runs.open(decodedName(id));
  else runs.close();
}

// ---- models --------------------------------------------------------------------------------------

/** The chosen model with the limits and defaults that the server states. */
function chosenModel() {
  return models.find((model) => model.id === element("model").value) ?? models[0] ?? { id: "", sampling: usualSampling };
}

async function loadModels() {
  const { data } = await (await request("/v1/models")).json();
  models = data.map(({ id, dalle = {} }) => ({
    id, step: dalle.step, checkpoint: dalle.checkpoint, manifest: dalle.manifest, imageSize: dalle.image_size,
    grid: dalle.grid, count: dalle.count, captions: dalle.captions ?? [], maxCount: dalle.max_n ?? 10, maxBestOf: dalle.max_best_of ?? 64,
    maxPreviews: dalle.max_partial_images ?? 3, sampling: { ...usualSampling, ...dalle.sampling },
    isGuidanceTrained: dalle.guidance_trained ?? true, canRerank: dalle.can_rerank ?? false, reranker: dalle.reranker,
    rerankerModel: dalle.reranker_model ?? "",
  }));
  element("model").replaceChildren(...models.map(({ id }) => make("option", { value: id, textContent: id })));
  element("model-field").hidden = models.length < 2;
  showModel();
}

/** @returns whether the models are known now */
async function loadModelsOrExplain() {
  try {
    await loadModels();
    showError("");
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) console.error(error);
    showError(error.message);
    setSampling(usualSampling);  // so that the form can be submitted, which tries again
    return false;
  }
}

function showModel() {
  const model = chosenModel();
  const size = model.imageSize ?? 256, codes = model.grid ?? 32;
  const facts = [model.id, model.imageSize && `${size} × ${size}`, model.step != null && `step ${number(model.step)}`];
  element("model-line").textContent = facts.filter(Boolean).join(" · ");
  element("caption").placeholder = model.captions?.[0] ?? "";
  element("count").max = model.maxCount;
  element("count").value = Math.min(model.count ?? 4, model.maxCount);
  element("best-of-field").hidden = element("best-of").disabled = !model.canRerank;
  element("best-of").max = model.maxBestOf;
  element("best-of-hint").textContent = model.reranker === "likelihood"
    ? "Generates this many candidates per caption and keeps the best, ranked by how much the caption raises the likelihood of the image."
    : "Generates this many candidates per caption and keeps the best, ranked by the contrastive model.";
  element("guidance-hint").textContent = model.isGuidanceTrained ? "" : "This model was not trained for guidance.";
  prompt.setModel(size, size / codes);
  setSampling(model.sampling);
}

function setSampling(sampling) {
  for (const [name, id] of Object.entries(samplingFields)) element(id).value = sampling[name];
  showPlan();
}

function sampling() {
  return Object.fromEntries(Object.entries(samplingFields).map(([name, id]) => [name, Number(element(id).value)]));
}

// ---- the request ---------------------------------------------------------------------------------

/** Shows the caption with a menu in place of each group of alternatives. */
function showCaption() {
  const parsed = parseTemplate(element("caption").value);
  const groups = parsed.filter((part) => part.alternatives);
  const isSame = JSON.stringify(groups) === JSON.stringify(parts.filter((part) => part.alternatives));
  parts = parsed;
  if (!isSame) choices = groups.map(() => null);
  element("alternatives").hidden = groups.length === 0;
  let group = 0;
  element("alternatives").replaceChildren(...parts.map((part) => {
    if (!part.alternatives) return part.text;
    const index = group++;
    const select = make("select", { ariaLabel: `Alternative ${index + 1}` },
      make("option", { value: "", textContent: `all ${part.alternatives.length}` }),
      ...part.alternatives.map((text, value) => make("option", { value, textContent: text || "(nothing)" })));
    select.value = choices[index] ?? "";
    select.addEventListener("change", () => {
      choices[index] = select.value === "" ? null : Number(select.value);
      showPlan();
    });
    return select;
  }));
  showPlan();
}

function wholeNumber(id, fallback) {
  const value = Number(element(id).value);
  return Number.isInteger(value) && element(id).value !== "" ? value : fallback;
}

/** What would be generated: the grid of captions and the number of images. */
function plan() {
  const layout = captionGrid(parts, choices);
  const captions = layout.rowCount * layout.columns.length;
  const count = wholeNumber("count", 1);
  const bestOf = element("best-of").disabled ? 0 : wholeNumber("best-of", 0);
  return { layout, captions, count, bestOf: bestOf > count ? bestOf : 0, images: captions * Math.max(count, bestOf) };
}

function showPlan() {
  const { captions, count, bestOf, images } = plan();
  const isBestOfUnused = !bestOf && element("best-of").value !== "";
  element("best-of").setCustomValidity(isBestOfUnused ? "Must be greater than Images per caption." : "");
  const each = bestOf ? `${count} of ${bestOf}` : count;
  const isTooMany = images > maxImages;
  let words = captions > 1 ? `${number(captions)} captions × ${each} images` : bestOf ? `${each} images` : "";
  if (isTooMany) words += `${words ? " = " : ""}${number(images)}; at most ${maxImages} at once`;
  element("plan").textContent = words;
  element("plan").classList.toggle("too-many", isTooMany);
  const shown = captions * count;
  element("submit").textContent = `Generate ${shown} image${shown === 1 ? "" : "s"}`;
  element("submit").disabled = isTooMany || running !== null;
  element("best-of-hint").hidden = !bestOf;
  const { sampling: usual } = chosenModel(), now = sampling();
  element("reset-sampling").hidden = Object.keys(samplingFields).every((name) => now[name] === usual[name]);
}

function randomSeed() {
  return crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
}

/** Everything that determines the images, and the places for them. */
function newGeneration() {
  const { layout, count, bestOf } = plan();
  if (element("new-seed").checked) element("seed").value = randomSeed();
  const model = chosenModel();
  const rows = Array.from({ length: layout.rowCount }, (_, row) => layout.heading(row));
  const cells = rows.flatMap((_, row) => layout.columns.map((_, column) => ({ caption: layout.caption(row, column), images: [] })));
  return { template: element("caption").value, choices: [...choices], rows, columns: layout.columns, cells, count, bestOf,
           seed: Number(element("seed").value), sampling: sampling(), model, previews: model.maxPreviews,
           prompt: prompt.value(), time: Date.now() };
}

// ---- generating ----------------------------------------------------------------------------------

function showGeneration(generation) {
  grid?.release();
  grid = new ResultsGrid(generation, (...image) => detail.open(...image));
  element("images").replaceChildren(grid.root);
}

/** Generates the images of one caption into their places. With best-of, the best come first. */
async function generateCell(generation, index, signal, progress) {
  const cell = generation.cells[index];
  let arrived = 0;
  await generate(generation, cell.caption, signal, {
    preview: (image, png) => grid.preview(index, image, png),
    completed: (image, png, score) => {
      const slot = generation.bestOf || image >= generation.count ? arrived : image;
      ++arrived;
      cell.images[slot] = { image, score, blob: blobOf(png) };
      grid.show(index, slot);
      progress();
    },
  });
}

async function run(generation) {
  running = new AbortController();
  const { signal } = running, begin = performance.now();
  const wanted = generation.cells.length * generation.count;
  let finished = 0, failure = null, next = 0;
  const report = (word) => {
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    element("status").textContent = `${word}: ${finished} of ${wanted} images, ${seconds} s, seed ${generation.seed}`;
  };
  const progress = () => {
    ++finished;
    report("Generating");
  };
  const work = async () => {
    while (next < generation.cells.length && !failure && !signal.aborted)
      await generateCell(generation, next++, signal, progress).catch((error) => { failure ??= error; });
  };
  showError("");
  showGeneration(generation);
  element("cancel").hidden = false;
  report("Generating");
  showPlan();
  if (element("results").getBoundingClientRect().top > innerHeight / 2) element("results").scrollIntoView();  // a narrow screen
  await Promise.all(Array.from({ length: parallelRequests }, work));
  const isCanceled = signal.aborted;
  running = null;
  element("cancel").hidden = true;
  showPlan();
  grid.stop();
  if (failure && !isCanceled) {
    if (!(failure instanceof ApiError)) console.error(failure);
    showError(failure.message);
  }
  report(isCanceled ? "Canceled" : failure ? "Stopped" : "Finished");
  if (finished > 0) await remember(generation);
}

async function remember(generation) {
  try {
    await addGeneration(generation);
    if (!element("history").hidden) showHistory();
  } catch (error) {
    showError(`Cannot save the history in this browser: ${error.message}`);
  }
}

async function submit(event) {
  event.preventDefault();
  if (models.length === 0 && !(await loadModelsOrExplain())) return;
  if (running || plan().images > maxImages || !element("request").reportValidity()) return;
  run(newGeneration());
}

/** Fills the form with the settings of a former generation. */
function reuseSettings(generation) {
  location.hash = "generate";
  if (models.some(({ id }) => id === generation.model.id)) element("model").value = generation.model.id;
  showModel();
  element("caption").value = generation.template;
  parts = [];
  showCaption();
  choices = [...generation.choices];
  showCaption();
  element("count").value = generation.count;
  element("best-of").value = generation.bestOf || "";
  element("seed").value = generation.seed;
  element("new-seed").checked = false;
  setSampling(generation.sampling);
  if (generation.prompt) prompt.restore(generation.prompt);
  else if (prompt.file) prompt.remove();
  if (!running) showGeneration(generation);
}

// ---- history -------------------------------------------------------------------------------------

let historyUrls = [];

function historyEntry(generation) {
  const thumbnails = generation.cells.flatMap((cell) => cell.images).filter(Boolean).slice(0, 12).map(({ blob }) => {
    const url = URL.createObjectURL(blob);
    historyUrls.push(url);
    return make("img", { src: url, alt: "" });
  });
  const { template, seed, count, model, time } = generation;
  const open = make("button", { type: "button", className: "entry" },
    make("span", { className: "thumbnails" }, ...thumbnails),
    make("b", { textContent: template }),
    make("span", { className: "quiet", textContent: `${new Date(time).toLocaleString()} · ${model.id} · seed ${seed} · ${count} each` }));
  open.addEventListener("click", () => reuseSettings(generation));
  const remove = make("button", { type: "button", className: "close", ariaLabel: `Delete ${template}`, textContent: "×" });
  remove.addEventListener("click", async () => {
    await removeGeneration(generation.id);
    showHistory();
  });
  return make("li", {}, open, remove);
}

async function showHistory() {
  let generations = [];
  try {
    generations = await listGenerations();
    element("history-note").textContent = generations.length
      ? `Kept in this browser only: the last ${maxGenerations} generations, or 200 MB.`
      : "Nothing has been generated in this browser yet.";
  } catch (error) {
    element("history-note").textContent = `Cannot read the history in this browser: ${error.message}`;
  }
  historyUrls.forEach((url) => URL.revokeObjectURL(url));
  historyUrls = [];
  element("history-list").replaceChildren(...generations.map(historyEntry));
  element("clear-history").hidden = generations.length === 0;
}

// ---- API key -------------------------------------------------------------------------------------

function askForKey(isWrong) {
  const dialog = element("key-dialog");
  element("key-note").textContent = isWrong
    ? "The server does not accept this key."
    : "This server requires an API key. It is kept until you close this tab.";
  element("key").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "entered" ? element("key").value : null), { once: true });
  });
}

// ---- start ---------------------------------------------------------------------------------------

setKeyDialog(askForKey);
element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  element("key-dialog").close("entered");
});
element("key-cancel").addEventListener("click", () => element("key-dialog").close());
element("request").addEventListener("submit", submit);
element("request").addEventListener("input", showPlan);
element("request").addEventListener("change", showPlan);
element("caption").addEventListener("input", showCaption);
element("caption").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  element("request").requestSubmit(element("submit"));
});
element("cancel").addEventListener("click", () => running?.abort());
element("model").addEventListener("change", showModel);
element("seed").addEventListener("input", () => { element("new-seed").checked = false; });
element("reset-sampling").addEventListener("click", () => {
  setSampling(chosenModel().sampling);
  element("temperature").focus();
});
element("clear-history").addEventListener("click", async () => {
  if (!confirm("Delete the entire history in this browser?")) return;
  await clearGenerations();
  showHistory();
});
addEventListener("hashchange", showView);
showCaption();
showView();
loadModelsOrExplain();
