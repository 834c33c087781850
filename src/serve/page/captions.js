// Captions with alternatives, such as "a [red|blue] circle", and what reproduces an image of one.

/** More than that is a mistake in a caption rather than a wish. */
export const maxImages = 200;

/**
 * The parts of a caption: {text} or {alternatives}. Brackets without a bar are text.
 */
export function parseTemplate(template) {
  const parts = [];
  let end = 0;
  for (const match of template.matchAll(/\[([^[\]]*\|[^[\]]*)\]/g)) {
    if (match.index > end) parts.push({ text: template.slice(end, match.index) });
    const alternatives = match[1].split("|").map((alternative) => alternative.trim());
    parts.push({ alternatives: [...new Set(alternatives)] });
    end = match.index + match[0].length;
  }
  if (end < template.length) parts.push({ text: template.slice(end) });
  return parts;
}

/**
 * All combinations of the alternatives as a grid: the last part that varies gives the columns,
 * those before it the rows; a single one gives the rows, because each has several images.
 *
 * @param choices  for each part with alternatives: the number of the only one to use, or null
 * @returns {{rowCount: number, columns: string[], heading: (row) => string, caption: (row, column) => string}}
 */
export function captionGrid(parts, choices) {
  let group = 0;
  const options = parts.map((part) => {
    if (!part.alternatives) return [part.text];
    const choice = choices[group++];
    return choice == null ? part.alternatives : [part.alternatives[choice]];
  });
  const varying = options.map((list, index) => index).filter((index) => options[index].length > 1);
  const across = varying.length > 1 ? varying.pop() : null;
  const columns = across == null ? [""] : options[across];
  const count = varying.reduce((product, index) => product * options[index].length, 1);
  // The number of a row is written in the mixed radix of the parts that vary along the rows.
  const digits = (row) => {
    const chosen = new Map();
    for (const index of [...varying].reverse()) {
      chosen.set(index, options[index][row % options[index].length]);
      row = Math.floor(row / options[index].length);
    }
    return chosen;
  };
  return {
    rowCount: count,
    columns,
    heading: (row) => {
      const chosen = digits(row);
      return varying.map((index) => chosen.get(index) || "(nothing)").join(", ");
    },
    caption: (row, column) => {
      const chosen = digits(row);
      const words = options.map((list, index) =>
        index === across ? columns[column] : chosen.get(index) ?? list[0]);
      return words.join("").replace(/\s+/g, " ").trim();
    },
  };
}

/** A word that a POSIX shell reads as `text`: quoted if it has to be. */
export function shellWord(text) {
  if (/^[A-Za-z0-9_\-./=,:+@%]+$/.test(text)) return text;
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The dalle-sample command that generates the images of a caption again. */
export function sampleCommand(generation, caption) {
  const { model, seed, count, bestOf, sampling, prompt } = generation;
  const words = ["dalle-sample", "--model", model.checkpoint || model.id, "--seed", seed, "--count", count];
  if (bestOf) words.push("--best-of", bestOf);
  if (bestOf && model.rerankerModel) words.push("--reranker", model.rerankerModel);
  if (bestOf && model.reranker === "likelihood") words.push("--rank-by", "likelihood");
  const names = { temperature: "--temperature", top_k: "--top-k", top_p: "--top-p", guidance: "--guidance" };
  for (const [name, option] of Object.entries(names))
    if (sampling[name] !== model.sampling?.[name]) words.push(option, sampling[name]);
  if (prompt) {
    words.push("--image", prompt.name.startsWith("-") ? `./${prompt.name}` : prompt.name);
    if (prompt.keep) words.push("--keep", prompt.keep);
    if (prompt.keepRows != null) words.push("--keep-rows", prompt.keepRows);
    if (prompt.variation || (!prompt.keep && prompt.keepRows == null)) words.push("--variation", prompt.variation);
    if (prompt.paste) words.push("--paste-original");
  }
  // After "--", a caption may begin with a dash.
  if (caption.startsWith("-")) words.push("--");
  words.push(caption);
  return words.map((word) => shellWord(String(word))).join(" ");
}

/** A name like those that dalle-sample gives its files. */
export function fileName(caption, seed, image) {
  const stem = caption.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
  return `${stem || "image"}-seed${seed}-${String(image).padStart(3, "0")}.png`;
}
