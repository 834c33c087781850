// Requests to the server that this page came from.

export class ApiError extends Error {
  /** @param status  of the answer; without one, there was none, or it began well */
  constructor(words, status) {
    super(words);
    this.status = status;
  }
}

const keyName = "dalle-api-key";
let askForKey = null;   // shows a dialog and returns a promise of a key, or of null
let asking = null;      // that promise, while the dialog is open

/** `ask(isWrong)` is called when the server requires a key, or rejects the key that it was sent. */
export function setKeyDialog(ask) {
  askForKey = ask;
}

export function hasKey() {
  return sessionStorage.getItem(keyName) !== null;
}

async function send(path, options) {
  const headers = { ...options.headers };
  const key = sessionStorage.getItem(keyName);
  if (key !== null) headers.authorization = `Bearer ${key}`;
  try {
    return { key, response: await fetch(path, { ...options, headers, credentials: "omit" }) };
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server is not responding. Is dalle-serve still running?");
  }
}

/** What an answer with an error says, for people. */
async function errorOf(response) {
  let words = "";
  try {
    const { error } = await response.json();
    words = typeof error === "string" ? error : error.message;
  } catch {
    // Not the API's form, such as the page of a proxy: the status must do.
  }
  const { status } = response;
  words = words.charAt(0).toUpperCase() + words.slice(1);
  return new ApiError(words || `The server responded with status ${status}.`, status);
}

/**
 * A fetch() that asks for an API key when one is needed.
 * @returns a response with a status below 400
 * @throws ApiError
 */
export async function request(path, options = {}) {
  for (;;) {
    const { key, response } = await send(path, options);
    if (response.status < 400) return response;
    const error = await errorOf(response);
    if (response.status !== 401 || !askForKey) throw error;
    // Another request may have been given a key in the meantime.
    if (sessionStorage.getItem(keyName) !== key) continue;
    asking ??= askForKey(key !== null).finally(() => { asking = null; });
    const entered = await asking;
    if (entered === null) throw error;
    sessionStorage.setItem(keyName, entered);
  }
}

/** The JSON payloads of a stream of server-sent events. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const whole = text.split(/\r?\n\r?\n/);
    text = whole.pop();
    for (const event of whole) {
      const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart()).join("\n");
      if (data && data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

/** The fields of a request for the images of a caption, as the API names them. */
function fieldsOf({ model, seed, count, bestOf, sampling, previews }, caption) {
  const fields = { prompt: caption, model: model.id, n: count, seed, ...sampling,
                   response_format: "b64_json", stream: true, partial_images: previews };
  if (bestOf) fields.best_of = bestOf;
  return fields;
}

function editForm(fields, prompt) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  if (prompt.keep) form.append("keep", prompt.keep);
  if (prompt.keepRows != null) form.append("keep_rows", String(prompt.keepRows));
  if (prompt.variation || (!prompt.keep && prompt.keepRows == null))
    form.append("variation", String(prompt.variation));
  if (prompt.paste) form.append("paste_original", "true");
  form.append("image", prompt.file, prompt.name);
  return form;
}

/**
 * Generates the images of a caption.
 * @param use  {preview(image, png), completed(image, png, score)}: PNG files in base64
 * @throws ApiError, or an AbortError after a signal
 */
export async function generate(generation, caption, signal, use) {
  const fields = fieldsOf(generation, caption);
  const response = generation.prompt
    ? await request("/v1/images/edits", { method: "POST", signal, body: editForm(fields, generation.prompt) })
    : await request("/v1/images/generations", { method: "POST", signal, body: JSON.stringify(fields),
                                                headers: { "content-type": "application/json" } });
  let completed = 0;
  try {
    for await (const event of events(response)) {
      if (event.error) throw new ApiError(event.error.message || "The server reported an error.");
      if (event.type?.endsWith(".partial_image")) {
        use.preview(event.image ?? completed, event.b64_json);
      } else if (event.type?.endsWith(".completed")) {
        use.completed(event.image ?? completed, event.b64_json, event.score);
        ++completed;
      }
    }
  } catch (error) {
    if (error instanceof ApiError || error.name === "AbortError") throw error;
    throw new ApiError("The connection to the server was lost.");
  }
  if (completed < generation.count) throw new ApiError("The server closed the response early.");
}
