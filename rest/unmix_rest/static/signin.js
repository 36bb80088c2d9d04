// Signing in with a key, where the server wants one. The browser then has a cookie that no script can read.

import { api, onKeyWanted } from "./api.js";
import { byId, write } from "./dom.js";
import { reason } from "./status.js";
import { texts } from "./texts.js";

/**
 * Ask for a key when the server wants one, and show who is signed in.
 *
 * @param {{onSignedIn: () => void}} handlers called when what was refused may be asked again
 */
export function mountSignIn({ onSignedIn }) {
  const form = byId("sign-in");
  const field = byId("key");
  const note = byId("sign-in-note");

  /** Show whose session this is, or the form. */
  function show({ needs_key: needsKey, name }) {
    byId("signed-in").hidden = !name;
    write(byId("signed-in-as"), texts("signIn.as", { name: name ?? "" }));
    document.body.classList.toggle("has-keys", needsKey);
    ask(needsKey && !name);
  }

  function ask(isWanted) {
    form.hidden = !isWanted;
    document.body.classList.toggle("needs-key", isWanted);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    write(note, "");
    try {
      show(await api.post("/apiv1/session", { key: field.value }));
      field.value = "";
      onSignedIn();
    } catch (error) {
      write(note, reason(error.code, error.message));
      field.select();
    }
  });
  byId("sign-out").addEventListener("click", async () => {
    await api.fetch("/apiv1/session", { method: "DELETE" }).catch(() => {});
    location.reload();
  });
  onKeyWanted(() => ask(true));
  api.json("/apiv1/session").then(show, () => {}); // who cannot be asked now is asked by what is done next
}
