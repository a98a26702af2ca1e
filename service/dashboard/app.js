// The page: which part is shown, and the question for an API key.

import { answerKey, keepKey, key, keyQuestion, onKeyChange } from "./api.js";
import { html, render, useEffect, useRef, useState } from "./htm_preact.js";
import { Feeds } from "./pages/feeds.js";
import { Keys } from "./pages/keys.js";
import { Overview } from "./pages/overview.js";
import { Reports } from "./pages/reports.js";
import { Store } from "./pages/store.js";
import { Stores } from "./pages/stores.js";
import { address, usePlace } from "./view.js";

const PARTS = [
  ["", "Overview", Overview],
  ["reports", "Reports", Reports],
  ["stores", "Stores", Stores],
  ["feeds", "Feeds", Feeds],
  ["keys", "Keys", Keys],
];

function App() {
  const { part, id, query } = usePlace();
  const [question, setQuestion] = useState(keyQuestion());
  const [hasKey, setHasKey] = useState(Boolean(key()));
  const [generation, setGeneration] = useState(0);
  const main = useRef();
  const moved = useRef(false);

  useEffect(
    () =>
      onKeyChange(() => {
        setQuestion(keyQuestion());
        setHasKey(Boolean(key()));
      }),
    [],
  );

  const [, name, Part] = PARTS.find(([path]) => path === part) || PARTS[0];
  const title = id === undefined ? name : `Store ${id}`;
  useEffect(() => {
    document.title = `${title} · storewatch`;
    if (moved.current) main.current?.focus({ preventScroll: true });
    moved.current = true;
    scrollTo(0, 0);
  }, [title]);

  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  const report = query.get("report"); // stays chosen from page to page
  const forget = () => {
    keepKey(null);
    setGeneration(generation + 1);
  };

  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to content</a>
    <header class="top">
      <a class="brand" href=${address("", { report })}><img src="dashboard/icon.svg" alt="" width="26" height="26" />storewatch</a>
      <nav aria-label="Main">
        ${PARTS.map(
          ([path, label]) => html`
            <a href=${address(path, { report })} aria-current=${part === path ? (id === undefined ? "page" : "true") : null}>${label}</a>
          `,
        )}
      </nav>
      <div class="top-end">
        ${hasKey && html`<button type="button" class="quiet" onClick=${forget}>Forget key</button>`}
        <a href="schema">API</a>
      </div>
    </header>
    <main id="main" ref=${main} tabindex="-1" key=${generation}>
      ${id === undefined ? html`<${Part} key=${part} query=${query} />` : html`<${Store} key=${id} id=${id} query=${query} />`}
    </main>
    ${question && html`<${KeyDialog} reason=${question.reason} />`}
  `;
}

function KeyDialog({ reason }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  const give = (event) => {
    event.preventDefault();
    answerKey(String(new FormData(event.target).get("key")).trim());
  };
  const cancel = (event) => {
    event.preventDefault();
    answerKey(null);
  };
  return html`
    <dialog ref=${dialog} aria-labelledby="key-title" onCancel=${cancel}>
      <form onSubmit=${give}>
        <h2 id="key-title">An API key, please</h2>
        <p>${reason}</p>
        <label for="key">API key</label>
        <input id="key" name="key" type="password" required autocomplete="off" spellcheck=${false} autofocus />
        <p class="hint">Kept in this browser tab only, until you close it.</p>
        <div class="actions">
          <button type="button" class="quiet" onClick=${() => answerKey(null)}>Not now</button>
          <button class="main">Use this key</button>
        </div>
      </form>
    </dialog>
  `;
}

render(html`<${App} />`, document.getElementById("app"));
