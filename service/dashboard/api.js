// Asks the service: the one place that knows of keys, problems and streams of events.

const KEY = "storewatch-key";
const REPORT_PAGE = 100;
const listeners = new Set();
/** @type {any} */
let asking = null; // the question for a key that is open now: { reason, promise, answer }

/** What went wrong, as the service tells it (application/problem+json). */
export class Problem extends Error {
  constructor(status, told) {
    super(told.detail || told.title || `The service answered ${status}.`);
    this.status = status;
    this.type = (told.type || "").split("/").pop();
    this.errors = told.errors || [];
    this.count = told.count ?? this.errors.length;
  }
}

export const key = () => sessionStorage.getItem(KEY);

export function keepKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
  tellAll();
}

function tellAll() {
  for (const tell of listeners) tell();
}

/** The question for a key that is open, or null. */
export const keyQuestion = () => asking;

/** Call `tell` whenever the key or the question for one changes; returns what ends that. */
export function onKeyChange(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

/** Answer the open question: a key, or null for none. */
export function answerKey(value) {
  const { answer } = asking;
  asking = null;
  if (value) keepKey(value);
  else tellAll();
  answer(Boolean(value));
}

function askForKey(reason) {
  if (!asking) {
    asking = { reason };
    asking.promise = new Promise((answer) => {
      asking.answer = answer;
    });
    tellAll();
  }
  return asking.promise;
}

/** @type {() => Record<string, string>} */
export const keyHeader = () => (key() ? { Authorization: `Bearer ${key()}` } : {});

/** Whether another key was given, so that asking again makes sense. */
export async function keyHelps(status, problem, usedKey) {
  if (status !== 401 && status !== 403) return false;
  if (key() !== usedKey) return true; // given meanwhile, for another request
  return askForKey(problem.message);
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // not from the service itself: its status has to do
  }
  return new Problem(response.status, told);
}

/**
 * A response of the service; asks for a key where one is needed. Raises Problem.
 *
 * `own`: a kind of problem that the caller tells by itself, so that no key is asked for.
 *
 * @param {string} path
 * @param {RequestInit & { own?: string }} options
 */
export async function fetched(path, { own, ...options } = {}) {
  for (;;) {
    const used = key();
    let response;
    try {
      response = await fetch(path, { ...options, headers: { ...options.headers, ...keyHeader() } });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, { detail: "The service does not answer." });
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    if (problem.type === own || !(await keyHelps(response.status, problem, used))) throw problem;
  }
}

/** @type {(path: string, options?: RequestInit & { own?: string }) => Promise<any>} */
export const getJson = async (path, options) => (await fetched(path, options)).json();

export const startReport = async (options) => {
  const response = await fetched("reports", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": randomKey() },
    body: JSON.stringify(options),
  });
  return response.json();
};

// crypto.randomUUID is there in secure contexts only; getRandomValues everywhere.
const randomKey = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The pages of a long list, one after the other; `asked` is the rest of the query. */
export async function* pages(path, limit, options, asked = {}) {
  let cursor = null;
  do {
    const query = new URLSearchParams({ ...asked, limit: String(limit) });
    if (cursor) query.set("cursor", cursor);
    const page = await getJson(`${path}?${query}`, options);
    yield page;
    cursor = page.next_cursor;
  } while (cursor);
}

/**
 * The newest reports, or the newest of those that are asked for and wanted.
 *
 * @param {number} most
 * @param {{ signal?: AbortSignal, asked?: object, wanted?: (report: any) => boolean }} options
 */
export async function newestReports(most, { signal, asked = {}, wanted = () => true } = {}) {
  const found = [];
  for await (const { items } of pages("reports", REPORT_PAGE, { signal }, asked)) {
    found.push(...items.filter(wanted));
    if (found.length >= most) break;
  }
  return found.slice(0, most);
}

export const ended = (report) => !["queued", "running"].includes(report.status);

export const storePath = (id) => `stores/${encodeURIComponent(id)}`;

/**
 * Follow a stream of server-sent events until it ends for good, reconnecting with Last-Event-ID.
 *
 * By fetch, not EventSource, which cannot send a key. `onEvent` may give back "end".
 *
 * @param {string} path
 * @param {{ signal: AbortSignal, onEvent: (event: StreamEvent) => unknown, onState?: (state: string) => void }} how
 */
export async function follow(path, { signal, onEvent, onState = () => {} }) {
  let lastId = null;
  let wait = 1000;
  while (!signal.aborted) {
    try {
      const headers = { Accept: "text/event-stream", ...(lastId === null ? {} : { "Last-Event-ID": lastId }) };
      const response = await fetched(path, { headers, signal, cache: "no-store" });
      if (response.status === 204) return;
      onState("live");
      for await (const event of events(response.body)) {
        wait = 1000;
        if (event.id !== null) lastId = event.id;
        if (event.retry) wait = event.retry;
        if (event.data !== null && onEvent(event) === "end") return;
      }
    } catch (error) {
      if (signal.aborted || (error.status >= 400 && error.status < 500 && error.status !== 429)) return;
    }
    if (signal.aborted) return;
    onState("waiting");
    await pause(wait, signal);
    wait = Math.min(wait * 2, 15000);
  }
}

/** Wait, for less if the signal is aborted. */
export function pause(milliseconds, signal) {
  /** @type {Promise<void>} */
  const over = new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    const end = () => {
      clearTimeout(timer);
      resolve();
    };
    signal.addEventListener("abort", end, { once: true });
  });
  return over;
}

/** @typedef {{ id: string | null, type: string, data: string | null, retry: number | null }} StreamEvent */

/** @returns {StreamEvent} */
const emptyEvent = () => ({ id: null, type: "message", data: null, retry: null });

/** The events of a body of text/event-stream, as the HTML standard reads them. */
export async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let event = emptyEvent();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    text = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (event.data !== null || event.id !== null || event.retry !== null) yield event;
        event = emptyEvent();
        continue;
      }
      const [, field, given] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (field === "data") event.data = event.data === null ? (given ?? "") : `${event.data}\n${given ?? ""}`;
      else if (field === "event") event.type = given;
      else if (field === "id") event.id = given ?? "";
      else if (field === "retry" && /^\d+$/.test(given)) event.retry = Number(given);
    }
  }
}

/** Ask for a CSV and offer it as a file: by fetch, as a link sends neither a key nor what is accepted. */
export async function saveCsv(path, name) {
  const response = await fetched(path, { headers: { Accept: "text/csv" } });
  save(name, await response.blob());
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
