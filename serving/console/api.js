// What this page asks the server, and what its failures mean in plain words.

/** A failure that has a sentence for people; `retry` tells whether trying again may help. */
export class Problem extends Error {
  constructor(message, retry = false) {
    super(message);
    this.retry = retry;
  }
}

export const fetchModel = async () => (await ask("v1/model")).json();

export const fetchMetrics = async () =>
  (await ask("metrics", { headers: { Accept: "text/plain" }, signal: AbortSignal.timeout(5000) })).text();

/** The audit's report; null where this server has none. */
export async function fetchAudit() {
  const response = await fetch("v1/audit", { signal: AbortSignal.timeout(5000) });
  return response.ok ? response.json() : null;
}

/**
 * Classify images ({name, blob}, at least one) with query parameters.
 * Returns the answer's body and the seconds until it was here.
 */
export async function classify(images, parameters, signal) {
  const query = new URLSearchParams(parameters);
  const started = performance.now();
  const response = await ask(`v1/classify?${query}`, { method: "POST", body: content(images), signal });
  const answer = await response.json();
  return { answer, seconds: (performance.now() - started) / 1000 };
}

function content(images) {
  if (images.length === 1) return images[0].blob;
  const form = new FormData();
  for (const { name, blob } of images) form.append("file", blob, name);
  return form;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server can't be reached. Is it still running?", true);
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const said = await response.json().then((body) => body.error, () => "") || `status ${response.status}`;
  if (response.status === 503) {
    const wait = Number(response.headers.get("Retry-After")) || 1;
    return new Problem(`The server has too much to do: ${said}. It asks to wait ${wait} s.`, true);
  }
  const sentence = said[0].toUpperCase() + said.slice(1);
  return new Problem(`${sentence}.`.replace(/\.\.$/, "."), response.status >= 500);
}
