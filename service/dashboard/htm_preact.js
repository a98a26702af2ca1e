// What the pages use of htm and Preact, which come as files of their own (see vendor/README).

import htm from "./vendor/htm.js";
import { h } from "./vendor/preact.js";

export const html = htm.bind(h);
export { render } from "./vendor/preact.js";
export * from "./vendor/preact-hooks.js";
