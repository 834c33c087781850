// The generations of this browser, in IndexedDB, so that they outlast the tab. The oldest go first.

export const maxGenerations = 200;
const maxBytes = 200 << 20;

let opened = null;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const opening = indexedDB.open("dalle", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("generations", { keyPath: "id", autoIncrement: true });
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
  return opened;
}

/** Runs a request on the store and returns its result. */
async function store(mode, work) {
  const transaction = (await database()).transaction("generations", mode);
  const pending = work(transaction.objectStore("generations"));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(pending?.result);
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
}

function bytesOf(generation) {
  const images = generation.cells.flatMap((cell) => cell.images);
  return images.reduce((sum, image) => sum + (image?.blob.size ?? 0), generation.prompt?.file.size ?? 0);
}

/** The generations, the newest first. */
export async function listGenerations() {
  return (await store("readonly", (all) => all.getAll())).reverse();
}

/** Adds a generation and drops the oldest ones that no longer fit. */
export async function addGeneration(generation) {
  await store("readwrite", (all) => all.add(generation));
  let bytes = 0;
  const old = (await listGenerations()).filter((one, index) =>
    (bytes += bytesOf(one)) > maxBytes || index >= maxGenerations);
  for (const { id } of old) await removeGeneration(id);
}

export function removeGeneration(id) {
  return store("readwrite", (all) => all.delete(id));
}

export function clearGenerations() {
  return store("readwrite", (all) => all.clear());
}
