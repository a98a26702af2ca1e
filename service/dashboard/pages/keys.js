// Keys: which there are, make one, revoke one.

import { fetched, getJson, keepKey, key, keyHelps } from "../api.js";
import { instant } from "../format.js";
import { html, useEffect, useRef, useState } from "../htm_preact.js";
import { Confirm, Loading, useLoaded, Wrong } from "../parts.js";

const READ_ONLY = "scope-too-small";

export function Keys() {
  const { data, error, reload } = useLoaded((signal) => getJson("keys", { signal, own: READ_ONLY }), []);
  const [made, setMade] = useState(null); // the key that was made last, shown until it is put away
  const [asking, setAsking] = useState(null); // the key that is to be revoked, or not
  const [said, setSaid] = useState("");

  const onMade = (one) => {
    if (!key()) keepKey(one.key); // the first: without it the page would be refused from now on
    setMade(one);
    setSaid("Key made.");
    reload();
  };
  const onRevoked = (one) => {
    if (one.current) keepKey(null);
    setMade((before) => (before?.id === one.id ? null : before));
    setSaid(`${one.name} is revoked.`);
    reload();
  };

  if (error?.type === READ_ONLY) return html`<h1>Keys</h1><${ReadOnly} problem=${error} onKey=${reload} />`;
  const valid = data?.items.filter(({ revoked_at: at }) => !at);
  const revoked = data?.items.filter(({ revoked_at: at }) => at).reverse();
  return html`
    <h1>Keys</h1>
    <p class="said sub" role="status">${said}</p>
    ${error && html`<${Wrong} error=${error} retry=${reload} />`}
    ${!data && !error && html`<${Loading} />`}
    ${made && html`<${Made} key=${made.id} made=${made} onClose=${() => setMade(null)} />`}
    ${
      data &&
      html`
      ${!data.items.length && html`<${FirstKey} />`}
      <${Make} first=${!data.items.length} onMade=${onMade} />
      ${valid.length > 0 && html`<section class="card"><h2>Valid</h2><${Table} name="Keys that are valid" keys=${valid} onRevoke=${setAsking} /></section>`}
      ${
        revoked.length > 0 &&
        html`<section class="card"><details><summary>Revoked</summary><${Table} name="Keys that are revoked" keys=${revoked} /></details></section>`
      }
    `
    }
    ${asking && html`<${Revoke} key=${asking.id} one=${asking} onClose=${() => setAsking(null)} onRevoked=${onRevoked} />`}
  `;
}

function ReadOnly({ problem, onKey }) {
  const give = async () => (await keyHelps(problem.status, problem, key())) && onKey();
  return html`
    <section class="card">
      <p>The key of this page may read, but not write. To see, make and revoke keys it takes one of scope write.</p>
      <button type="button" onClick=${give}>Use another key</button>
    </section>
  `;
}

const FirstKey = () => html`
  <section class="card welcome">
    <h2>No key is made yet</h2>
    <p>So whoever runs a program on this machine is served, and nobody else, unless the service was told otherwise.</p>
    <p><strong>From the first key on each request needs one</strong>, also those of programs on this machine that load polls or fetch reports: give them theirs. The first has scope write. This page goes on with it until the tab is closed.</p>
  </section>
`;

function Make({ first, onMade }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const make = async (event) => {
    event.preventDefault();
    const form = event.target;
    const given = new FormData(form);
    setBusy(true);
    setError(null);
    try {
      const response = await fetched("keys", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ name: String(given.get("name")).trim(), scope: first ? "write" : given.get("scope") }),
      });
      onMade(await response.json());
      form.reset();
    } catch (problem) {
      setError(problem);
    }
    setBusy(false);
  };
  return html`
    <section class="card">
      <h2>${first ? "Make the first key" : "Make a key"}</h2>
      <form class="make" onSubmit=${make}>
        <label>Name<input name="name" required maxlength="100" pattern=".*\\S.*" autocomplete="off" placeholder="who or what uses it" /></label>
        <label>
          Scope
          <select name="scope" disabled=${first}>
            <option value="read" selected=${!first}>read: reports and stores</option>
            <option value="write" selected=${first}>write: also feeds and keys</option>
          </select>
        </label>
        <button class="main" disabled=${busy}>Make key</button>
      </form>
      ${error && html`<${Wrong} error=${error} />`}
    </section>
  `;
}

/** The key itself, this once. */
function Made({ made, onClose }) {
  const field = useRef();
  const [copied, setCopied] = useState("");
  useEffect(() => field.current.select(), []);
  const copy = async () => {
    field.current.select();
    try {
      await navigator.clipboard.writeText(made.key); // there in secure contexts only
      setCopied("Copied.");
    } catch {
      setCopied(document.execCommand("copy") ? "Copied." : "Press Ctrl+C to copy it.");
    }
  };
  return html`
    <section class="card" aria-label="The new key">
      <h2>${made.name}</h2>
      <p>This is the key. <strong>It is shown only now</strong>: keep it where its user finds it, in a password manager for example.</p>
      <div class="new-key">
        <input ref=${field} readonly value=${made.key} aria-label="The key" autocomplete="off" spellcheck=${false} />
        <button type="button" class="main" onClick=${copy}>Copy</button>
        <button type="button" class="quiet" onClick=${onClose}>I have kept it</button>
      </div>
      <p class="sub" role="status">${copied}</p>
      ${key() === made.key && html`<p class="sub">This page uses it now, until the tab is closed. From now on each request needs a key.</p>`}
    </section>
  `;
}

function Table({ name, keys, onRevoke }) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${name}>
      <table class="history">
        <thead>
          <tr>
            <th scope="col">Name</th><th scope="col">Key</th><th scope="col">Scope</th><th scope="col">Made</th><th scope="col">Last used</th>
            <th scope="col">${onRevoke ? html`<span class="hidden">What to do</span>` : "Revoked"}</th>
          </tr>
        </thead>
        <tbody>
          ${keys.map(
            (one) => html`
              <tr key=${one.id}>
                <th scope="row">${one.name}${one.current && html` <span class="badge">this page</span>`}</th>
                <td class="prefix"><code>${one.prefix}…</code></td>
                <td>${one.scope}</td>
                <td class="nowrap">${instant(one.created_at)}</td>
                <td class="nowrap">${one.last_used_at ? instant(one.last_used_at) : "never"}</td>
                <td class="nowrap">
                  ${
                    onRevoke
                      ? html`<button type="button" class="quiet" onClick=${() => onRevoke(one)} aria-label=${`Revoke ${one.name}`}>Revoke</button>`
                      : instant(one.revoked_at)
                  }
                </td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

const Revoke = ({ one, onClose, onRevoked }) => html`
  <${Confirm}
    title="Revoke this key?"
    yes="Revoke"
    act=${() => fetched(`keys/${one.id}`, { method: "DELETE" })}
    onClose=${onClose}
    onDone=${() => onRevoked(one)}
  >
    Whoever uses ${one.name} (${one.prefix}…) is refused within two seconds, for good.
    ${one.current && html` <strong>It is the key of this page</strong>, which will ask for another one.`}
  <//>
`;
