// The player of one job: every stem on one clock, from the first part that was made on. This module wires the others:
//
//     song ─▶ source (parts.js, stems.js) ─▶ sound ─▶ transport ─▶ graph ─▶ ears
//       └▶ peaks ─▶ waveform                    mix ─▶ mixer, graph, waveform, export
//
// Until there is something to hear it says so; then `Desk` has everything.

import { Desk } from "./desk.js";
import { element } from "./dom.js";
import { Song } from "./song.js";
import { plays } from "./stems.js";

/**
 * Put the player of a job into an element.
 *
 * @param {HTMLElement} host
 * @param {object} job as `GET /apiv1/jobs/<hash>` tells it
 * @param {{api: {json: Function, fetch: Function}, texts: (key: string, values?: object) => string, onReady?: () => void}} page
 *   `onReady` is told once there is something to press
 * @returns {{update: (job: object) => void, destroy: () => void}} `update` is told whatever the job becomes
 */
export function mountPlayer(host, job, { api, texts, onReady }) {
  const root = element("section", { class: "player", "aria-label": texts("player.label") });
  const notice = element("p", { class: "player-status", role: "status" });
  root.append(notice);
  host.append(root);
  const song = new Song(api, job);
  let desk = null;

  song.addEventListener("source", () => {
    notice.remove();
    if (desk) {
      desk.sourceChanged();
      return;
    }
    desk = new Desk(root, song, texts);
    onReady?.();
  });
  song.addEventListener("change", () => {
    if (desk) desk.show();
    else if (song.problem) notice.textContent = texts("player.problem", { reason: song.problem.message });
    else notice.textContent = texts(silence(song.job));
  });
  song.update(job);

  return {
    update: (changed) => song.update(changed),
    destroy() {
      song.close();
      desk?.close();
      root.remove();
    },
  };
}

/** Return what is said of a job while there is nothing to hear of it. */
function silence(job) {
  if (job.status === "done" && !job.parts && !plays(job)) return "player.otherFormat";
  const isExpected = job.status === "queued" || job.status === "running" || job.status === "done";
  return isExpected ? "player.notYet" : "player.nothing";
}
