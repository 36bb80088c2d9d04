// How a song stands, in words: nothing here touches the page.

import { clock } from "./clock.js";
import { about, texts } from "./texts.js";

const OVER = ["done", "failed", "cancelled"];

/** Whether nothing more will happen to a job by itself. */
export const isOver = (view) => OVER.includes(view.status);

/** Whether something of a job can be heard: a part, or finished stems. */
export const isPlayable = (view) =>
  Boolean(view) && view.status !== "failed" && view.status !== "cancelled" && (view.parts?.there > 0 || hasStems(view));

/** Whether a job has files to download. */
export const hasStems = (view) => view.status === "done" && Object.keys(view.stems ?? {}).length > 0;

/** Return why something was refused or went wrong, and what to do about it. */
export function reason(code, message) {
  const other = message ? texts("error.other", { message }) : texts("error.unknown");
  return texts.or(`error.${code}`, other, { message });
}

/**
 * Return how a song stands.
 *
 * @param {import("./entries.js").Entry} entry
 * @returns {{text: string, why: string, share: number | null, tone: "quiet" | "busy" | "good" | "bad"}} `share` of what
 *   goes on, null if nothing does
 */
export function statusOf(entry) {
  if (entry.sending) return ofSending(entry.sending);
  if (entry.isGone) return told(texts("job.gone"), "quiet");
  if (!entry.view) return told(entry.isUnknown ? texts("job.unknown") : "", "quiet");
  const status = ofJob(entry.view, entry.etaSeconds);
  return entry.problem ? { ...status, why: reason(entry.problem.code, entry.problem.message) } : status;
}

function ofSending({ phase, share, seconds, problem }) {
  if (phase === "refused") return told(texts("job.refused"), "bad", { why: reason(problem.code, problem.message) });
  if (phase === "again" && problem.status === 0) return told(texts("job.again", { seconds }), "quiet");
  if (phase === "again") {
    return told(texts("job.later", { time: about(seconds) }), "quiet", { why: reason(problem.code, problem.message) });
  }
  if (phase === "waiting") return told(texts("job.waitingToSend"), "quiet");
  if (share >= 1) return told(texts("job.checking"), "busy", { share: 1 });
  return told(texts("job.sending", { percent: percent(share) }), "busy", { share });
}

function ofJob(view, etaSeconds) {
  switch (view.status) {
    case "queued":
      if (view.retry_at) return told(texts("job.retrying"), "quiet");
      return told(ofPlace(view.position, etaSeconds), "quiet");
    case "running": {
      const values = { percent: percent(view.progress) };
      const text =
        etaSeconds == null
          ? texts("job.running", values)
          : texts("job.left", { ...values, time: about(Math.max(1, etaSeconds)) });
      return told(text, "busy", { share: view.progress, why: isPlayable(view) ? texts("job.early") : "" });
    }
    case "done":
      return told(texts("job.done"), "good");
    case "cancelled":
      return told(texts("job.cancelled"), "quiet");
    default:
      return told(texts("job.failed"), "bad", { why: reason(view.error_code, view.error) });
  }
}

function ofPlace(place, etaSeconds) {
  if (!place) return texts("job.queued");
  if (etaSeconds == null) return texts("job.place", { place });
  return texts("job.placeLeft", { place, time: about(etaSeconds) });
}

/** Return what is told of a song beside how it goes: how long it is, key and tempo if they are known. */
export function factsOf(view) {
  const facts = [];
  if (view?.duration_seconds) facts.push(clock(view.duration_seconds));
  if (view?.music?.key) facts.push(texts("job.key", { key: view.music.key }));
  if (view?.music?.tempo_bpm) facts.push(texts("job.tempo", { bpm: Math.round(view.music.tempo_bpm) }));
  if (view?.options?.format) facts.push(texts.or(`format.short.${view.options.format}`, view.options.format));
  return facts;
}

const told = (text, tone, more = {}) => ({ text, why: "", share: null, tone, ...more });

/** Return a share as a whole number: 100 only when it is all. */
const percent = (share) => Math.floor(Math.min(1, Math.max(0, share ?? 0)) * 100);
