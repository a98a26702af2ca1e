// The view is in the address: which page is shown, and what is chosen on it. A reload, "back" and a shared link show the same again.

import { useEffect, useRef, useState } from "./htm_preact.js";

const listeners = new Set();

/** What the address points at: { path, part, id, query } of #/stores/an%20id?report=… */
export function place() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [part, id] = path.split("/");
  let decoded = id;
  try {
    decoded = id && decodeURIComponent(id);
  } catch {
    // as it stands
  }
  return { path, part, id: decoded, query: new URLSearchParams(query) };
}

/** The address of a page; values of its query that are empty are left out. */
export function address(path, query = {}) {
  const said = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return `#/${path}${said.length ? `?${new URLSearchParams(said)}` : ""}`;
}

/** The address of this page with some values of its query changed. */
export function changed(values) {
  const { path, query } = place();
  return address(path, { ...Object.fromEntries(query), ...values });
}

/** Choose some values of the query: a step that "back" undoes or, with `replace`, none, as while somebody types. */
export function choose(values, { replace = false } = {}) {
  const to = changed(values);
  if (to === location.hash || (to === "#/" && !location.hash)) return;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  for (const tell of listeners) tell();
}

/** The place that the address points at, whenever it changes. */
export function usePlace() {
  const [now, setNow] = useState(place);
  const hash = useRef(location.hash);
  useEffect(() => {
    const look = () => {
      if (location.hash === hash.current) return;
      hash.current = location.hash;
      setNow(place());
    };
    listeners.add(look);
    const told = ["popstate", "hashchange"];
    for (const name of told) addEventListener(name, look);
    return () => {
      listeners.delete(look);
      for (const name of told) removeEventListener(name, look);
    };
  }, []);
  return now;
}

/** What this step of the history remembers, such as how far a table was scrolled: not told in links. */
export const remembered = (name) => history.state?.[name];
export const remember = (name, value) => history.replaceState({ ...history.state, [name]: value }, "");
