// The stores of a report as a table needs them: in blocks, fetched when they come into sight and kept for a while.

import { getJson } from "./api.js";

const BLOCK = 200;
const AHEAD = 60; // rows above and below those in sight, fetched with them
const [BLOCKS_KEPT, DAYS_KEPT] = [40, 8000];
const [SOON, STILL] = [60, 200]; // milliseconds: until blocks are asked for; until nobody scrolls
const [MOST_IDS, QUERY_LENGTH] = [100, 6000]; // in one request: proxies take lines of 8 kB

/** The values used last of so many. */
class Kept {
  #values = new Map();

  constructor(most) {
    this.most = most;
  }

  get(name) {
    const value = this.#values.get(name);
    if (value !== undefined) this.set(name, value);
    return value;
  }

  set(name, value) {
    this.#values.delete(name);
    this.#values.set(name, value);
    if (this.#values.size > this.most) this.#values.delete(this.#values.keys().next().value);
  }
}

// Reports never change: who comes back from a store finds the table as it was.
const blocks = new Kept(BLOCKS_KEPT);
const daysOf = new Kept(DAYS_KEPT);

/**
 * The rows of a report by one query.
 *
 * `total` is null until the first block is there. `onChange` is called whenever there is more to draw.
 */
export class ReportRows {
  #path;
  #query;
  #onChange;
  #asking = new Map(); // blocks that are under way, each with what ends that
  #sight = [0, 0];
  #timers = {};
  #ofDays = new AbortController();

  constructor(report, query, onChange) {
    this.total = null;
    this.error = null;
    this.#path = `reports/${report.id}`;
    this.#query = query;
    this.#onChange = onChange;
    this.#kept(0);
  }

  /** A row by its number, from 0: as the service tells it, or undefined as long as it is not there. */
  at(number) {
    return this.#kept(Math.floor(number / BLOCK))?.[number % BLOCK];
  }

  /** The seven days of a store, or undefined. */
  days(id) {
    return daysOf.get(`${this.#path} ${id}`);
  }

  /** Fetch what is in sight, and no longer what is not: rows from `first` to before `last`. */
  show(first, last) {
    this.#sight = [first, last];
    const [from, to] = this.#blocksInSight();
    for (const [block, abort] of this.#asking) if (block < from || block > to) this.#drop(block, abort);
    if (this.total === null) this.#ask();
    else this.#timers.ask ??= setTimeout(() => this.#ask(), SOON);
    clearTimeout(this.#timers.days);
    this.#timers.days = setTimeout(() => this.#askDays(), STILL);
  }

  retry() {
    this.error = null;
    this.show(...this.#sight);
    this.#onChange();
  }

  end() {
    Object.values(this.#timers).forEach(clearTimeout);
    this.#timers = {};
    for (const [block, abort] of this.#asking) this.#drop(block, abort);
    this.#ofDays.abort();
  }

  #drop(block, abort) {
    this.#asking.delete(block);
    abort.abort();
  }

  #name = (block) => `${this.#path} ${this.#query} ${block}`;

  #kept(block) {
    const kept = blocks.get(this.#name(block));
    if (kept) this.total = kept.total;
    return kept?.items;
  }

  #blocksInSight() {
    const [first, last] = this.#sight;
    const end = this.total === null ? last : Math.min(last + AHEAD, this.total);
    return [Math.floor(Math.max(0, first - AHEAD) / BLOCK), Math.floor(Math.max(0, end - 1) / BLOCK)];
  }

  #ask() {
    this.#timers.ask = undefined;
    const [from, to] = this.#blocksInSight();
    for (let block = from; block <= to; block += 1) {
      if (this.#kept(block) || this.#asking.has(block)) continue;
      const abort = new AbortController();
      this.#asking.set(block, abort);
      this.#fetch(block, abort.signal).then(
        () => this.#asking.delete(block),
        (error) => {
          if (abort.signal.aborted) return;
          this.#asking.delete(block);
          this.error = error;
          this.#onChange();
        },
      );
    }
  }

  async #fetch(block, signal) {
    const query = new URLSearchParams(this.#query);
    query.set("limit", String(BLOCK));
    query.set("offset", String(block * BLOCK));
    const { total, items } = await getJson(`${this.#path}/stores?${query}`, { signal });
    blocks.set(this.#name(block), { total, items });
    this.total = total;
    this.#onChange();
    this.show(...this.#sight);
  }

  async #askDays() {
    this.#ofDays.abort();
    this.#ofDays = new AbortController();
    const { signal } = this.#ofDays;
    const wanted = [];
    const [first, last] = this.#sight;
    for (let number = first; number < Math.min(last, this.total ?? 0); number += 1) {
      const id = this.at(number)?.store_id;
      if (id !== undefined && !this.days(id)) wanted.push(id);
    }
    try {
      while (wanted.length && !signal.aborted) {
        let query = "";
        for (let ids = 0; wanted.length && ids < MOST_IDS; ids += 1) {
          const next = `${query && "&"}store_id=${encodeURIComponent(wanted[0])}`;
          if (query && query.length + next.length > QUERY_LENGTH) break;
          query += next;
          wanted.shift();
        }
        const { items } = await getJson(`${this.#path}/days?${query}`, { signal });
        for (const { store_id: id, days } of items) daysOf.set(`${this.#path} ${id}`, days);
        this.#onChange();
      }
    } catch {
      // the table does without: its rows are asked for again when somebody scrolls
    }
  }
}
