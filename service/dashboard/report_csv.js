// A report's CSV as columns: numbers in hundredths of the file's unit, so they can be written back as they were.

import { fetched } from "./api.js";

const ROWS_AT_ONCE = 100_000;
const COMMA = 44;
const QUOTE = 34;
const LINE_END = 10;
const cache = new Map(); // of the reports that were read last

/** The rows of a report; kept, as a report never changes. */
export function reportTable(id) {
  let table = cache.get(id);
  if (!table) {
    table = fetched(`reports/${id}/csv`)
      .then((response) => response.text())
      .then(parse);
    table.catch(() => cache.delete(id));
    cache.set(id, table);
    if (cache.size > 3) cache.delete(cache.keys().next().value);
  }
  return table;
}

/**
 * Read the CSV.
 *
 * Returns { names, ids, columns, availability }: the header, one id per row, an Int32Array by each name
 * after the first, and the week's uptime / (uptime + downtime), NaN where both are 0.
 */
export async function parse(text) {
  const headerEnd = text.indexOf("\n");
  const names = text.slice(0, headerEnd).trim().split(",");
  let most = 0;
  for (let at = headerEnd; at !== -1; at = text.indexOf("\n", at + 1)) most += 1;
  const ids = [];
  const values = names.slice(1).map(() => new Int32Array(most));
  let at = headerEnd + 1;
  while (at < text.length) {
    const row = ids.length;
    let end;
    if (text.charCodeAt(at) === QUOTE) {
      end = at + 1;
      while (text.charCodeAt(end) !== QUOTE || text.charCodeAt(end + 1) === QUOTE) {
        end += text.charCodeAt(end) === QUOTE ? 2 : 1;
      }
      ids.push(text.slice(at + 1, end).replaceAll('""', '"'));
      end += 1;
    } else {
      end = text.indexOf(",", at);
      ids.push(text.slice(at, end));
    }
    at = end + 1;
    for (const column of values) {
      let number = 0;
      let code = text.charCodeAt(at);
      while (code !== COMMA && code !== LINE_END && at < text.length) {
        if (code >= 48 && code <= 57) number = number * 10 + code - 48;
        at += 1;
        code = text.charCodeAt(at);
      }
      column[row] = number;
      at += 1;
    }
    if (ids.length % ROWS_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve));
  }
  const columns = Object.fromEntries(names.slice(1).map((name, i) => [name, values[i].subarray(0, ids.length)]));
  const [up, down] = [columns.uptime_last_week, columns.downtime_last_week];
  const availability = Float64Array.from(ids, (_, row) => up[row] / (up[row] + down[row]));
  return { names, ids, columns, availability };
}

/** Some of the rows as CSV again, as the report has them. */
export function csvOf(table, rows) {
  const columns = table.names.slice(1).map((name) => table.columns[name]);
  const lines = [table.names.join(",")];
  for (const row of rows) {
    const id = table.ids[row];
    const cells = [/[",\r\n]/.test(id) ? `"${id.replaceAll('"', '""')}"` : id];
    for (const column of columns) cells.push((column[row] / 100).toFixed(2));
    lines.push(cells.join(","));
  }
  return new Blob([lines.join("\n"), "\n"], { type: "text/csv" });
}
