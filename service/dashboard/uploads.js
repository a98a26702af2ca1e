// Files on their way to the service: they go on whichever part of the page is shown.

import { key, keyHeader, keyHelps, Problem } from "./api.js";
import { useEffect, useState } from "./htm_preact.js";
import { address, place } from "./view.js";

let uploads = []; // { number, name, size, state, share, loaded, problem }, the newest first
let line = Promise.resolve(); // they go one after the other
let next = 0;
const requests = new Map(); // of those that are being sent, by number
const listeners = new Set();

/** Whether an upload is on its way: it waits, is sent, or the service is at it. */
const isUnderWay = ({ state }) => ["waiting", "sending", "storing"].includes(state);
/** Whether a cancel leaves nothing loaded: the service has not got all of the file. */
export const canBeCancelled = ({ state }) => state === "waiting" || state === "sending";

const find = (number) => uploads.find((one) => one.number === number);

function tell(changed) {
  uploads = changed;
  window.onbeforeunload = uploads.some(isUnderWay) ? (event) => event.preventDefault() : null;
  for (const listener of listeners) listener(uploads);
}

const change = (number, more) => tell(uploads.map((one) => (one.number === number ? { ...one, ...more } : one)));

/** The uploads since the page was opened, the newest first. */
export function useUploads() {
  const [shown, setShown] = useState(uploads);
  useEffect(() => {
    setShown(uploads);
    listeners.add(setShown);
    return () => listeners.delete(setShown);
  }, []);
  return shown;
}

/** Send files, one after the other. */
export function upload(files) {
  for (const file of files) {
    const number = next++;
    tell([{ number, name: file.name, size: file.size, state: "waiting" }, ...uploads]);
    line = line.then(() => load(number, file));
  }
}

export function cancel(number) {
  if (!canBeCancelled(find(number))) return;
  change(number, { state: "cancelled" });
  requests.get(number)?.abort();
}

async function load(number, file) {
  for (;;) {
    if (find(number).state === "cancelled") return;
    change(number, { state: "sending", share: 0 });
    const used = key();
    try {
      change(number, { state: "loaded", loaded: await send(number, file) });
      return;
    } catch (problem) {
      if (find(number).state === "cancelled") return;
      change(number, { state: "waiting" });
      if (!(await keyHelps(problem.status, problem, used))) {
        if (find(number).state !== "cancelled") change(number, { state: "refused", problem });
        return;
      }
    }
  }
}

/** What the service answers; by XMLHttpRequest, because fetch does not tell how far it is. */
function send(number, file) {
  const request = new XMLHttpRequest();
  requests.set(number, request);
  return new Promise((resolve, reject) => {
    request.open("POST", "feeds");
    request.setRequestHeader("Content-Type", "text/csv");
    for (const [name, value] of Object.entries(keyHeader())) request.setRequestHeader(name, value);
    request.upload.onprogress = ({ loaded, total }) => change(number, { share: loaded / (total || 1) });
    request.upload.onload = () => change(number, { state: "storing" });
    request.onload = () => {
      let told = {};
      try {
        told = JSON.parse(request.responseText);
      } catch {
        // not from the service itself: its status has to do
      }
      if (request.status >= 200 && request.status < 300) resolve(told);
      else reject(new Problem(request.status, told));
    };
    request.onabort = () => reject(new Problem(0, { detail: "Cancelled." }));
    request.onerror = () => {
      const all = find(number).state === "storing";
      const detail = all
        ? "The connection broke before the answer came: the file may be loaded, or not. Loading it again changes nothing."
        : "The connection broke before the file was through, or the file cannot be read: nothing was loaded.";
      reject(new Problem(0, { detail }));
    };
    request.send(file);
  }).finally(() => requests.delete(number));
}

// A file that is dropped anywhere is loaded: the browser would leave the page and show it instead.

const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");

addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!event.dataTransfer || !holdsFiles(event)) return;
  event.preventDefault();
  upload(event.dataTransfer.files);
  const { part, query } = place();
  if (part !== "feeds") location.hash = address("feeds", Object.fromEntries(query));
});
