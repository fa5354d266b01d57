/** Asking the server: the token, errors as one line, one request in flight of each kind, streams of lines. */

const token = new URLSearchParams(location.search).get("token") ?? "";
const tab = Math.random().toString(36).slice(2);
let count = 0;

/** What the server answered instead of what was asked. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The server cannot be reached. */
export class Gone extends Error {}

/**
 * The address of a question: values that are null or undefined are left out, pairs are joined by a comma. In a `lane`
 * of its own a question is not overtaken by those of its kind outside.
 */
export function address(path, values = {}, lane = "") {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined) query.set(name, Array.isArray(value) ? value.join(",") : value);
  }
  query.set("tab", tab + lane);
  query.set("q", String(++count));
  return `api/${path}?${query}`;
}

/** Where a page of the atlas is to be had: its links to others carry the token on. */
export const atlas = (name) => `atlas/${token}/${name}`;

/** A response that is one, or an error with the server's own line. */
export async function ask(path, values = {}, { signal, method = "GET", body, lane } = {}) {
  let response;
  try {
    response = await fetch(address(path, values, lane), { method, body, signal, headers: { "X-Token": token }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Gone(error.message);
  }
  if (response.ok) return response;
  let line = `${response.status} ${response.statusText}`;
  try {
    line = (await response.json()).error ?? line;
  } catch { /* not the server's own answer */ }
  throw new Refused(response.status, line);
}

export const json = async (path, values, more) => (await ask(path, values, more)).json();
export const blob = async (path, values, more) => (await ask(path, values, more)).blob();

/** Each line of a stream, read as JSON. */
export async function* lines(path, values, more) {
  const reader = (await ask(path, values, more)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const whole = rest.split("\n");
    rest = done ? "" : whole.pop();
    for (const line of whole) if (line) yield JSON.parse(line);
    if (done) return;
  }
}

/**
 * One kind of question. At most one is in flight; of those that come meanwhile only the last is asked, so that a
 * hundred moves of a pointer make no queue.
 */
export class Newest {
  #inFlight = null;
  #next = null;
  #key = "";

  /** `answer(question, signal)` asks and shows; `fail(error)` is told what went wrong. */
  constructor(answer, fail) {
    this.answer = answer;
    this.fail = fail;
  }

  /** Want the answer to `question`, plain data, unless it is what was wanted last. */
  want(question) {
    const key = JSON.stringify(question);
    if (key === this.#key) return;
    [this.#key, this.#next] = [key, question];
    if (!this.#inFlight) this.#go();
  }

  /** Want nothing any more: what is in flight is given up. */
  drop() {
    this.#next = null;
    this.#key = "";
    this.#inFlight?.abort();
  }

  async #go() {
    while (this.#next) {
      const question = this.#next;
      const flight = (this.#inFlight = new AbortController());
      this.#next = null;
      try {
        await this.answer(question, flight.signal);
      } catch (error) {
        if (!this.#next) this.#key = "";
        const overtaken = error.name === "AbortError" || (error instanceof Refused && error.status === 409);
        if (!overtaken) this.fail(error);
      }
    }
    this.#inFlight = null;
  }
}
