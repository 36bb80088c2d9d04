// Songs on their way to the server: few at once, the rest in line; what fails for the moment is tried again.

import { ApiError, api } from "./api.js";

/** Songs that are sent at the same time: more would only share the same line, and hold more of the server. */
const AT_ONCE = 2;
/** Tries of one song before a person is asked. The pauses grow to half a minute, so this is several minutes. */
const TRIES = 10;
/** Tries of a song that breaks off though the server answers otherwise: it may be the song. */
const TRIES_IF_ALIVE = 2;
const LONGEST_PAUSE_SECONDS = 30;

/**
 * A song that is to be sent; the page shows it by these.
 *
 * @typedef {object} Sending
 * @property {File | null} file or else
 * @property {string | null} url where the server gets it
 * @property {Record<string, string>} fields what is said of it
 * @property {"waiting" | "sending" | "again" | "refused"} phase
 * @property {number} share of its bytes that are sent, 0 to 1
 * @property {number} seconds until the next try, in phase again
 * @property {ApiError | null} problem why it was refused, or has to be sent again
 */

/**
 * Return what sends songs.
 *
 * @param {{onChange: (sending: Sending) => void, onAccepted: (sending: Sending, job: object) => void}} handlers
 */
export function createSender({ onChange, onAccepted }) {
  const line = [];
  const stops = new Map(); // of those under way, what stops each

  function next() {
    while (stops.size < AT_ONCE && line.length) {
      const sending = line.shift();
      const stop = new AbortController();
      stops.set(sending, stop);
      deliver(sending, stop.signal).finally(() => {
        stops.delete(sending);
        next();
      });
    }
  }

  async function deliver(sending, signal) {
    let alive = 0; // tries that broke off while the server answered
    for (let tries = 1; ; tries += 1) {
      try {
        change(sending, { phase: "sending", share: 0, problem: null });
        onAccepted(sending, await send(sending, signal));
        return;
      } catch (error) {
        if (signal.aborted) return;
        const problem = await reasonOf(error, sending.file);
        if (problem.code === "unreachable" && (await isAlive())) alive += 1;
        if (signal.aborted) return;
        if (!problem.isPassing || tries >= TRIES || alive >= TRIES_IF_ALIVE) {
          change(sending, { phase: "refused", problem });
          return;
        }
        await pause(sending, problem, problem.retryAfterSeconds || Math.min(2 ** tries, LONGEST_PAUSE_SECONDS), signal);
        if (signal.aborted) return;
      }
    }
  }

  function send(sending, signal) {
    if (!sending.file) {
      const headers = { "Content-Type": "application/json" };
      const body = JSON.stringify({ ...sending.fields, url: sending.url });
      return api.json("/apiv1/jobs", { method: "POST", headers, body, signal });
    }
    return api.sendSong(sending.file, sending.fields, { onSent: (share) => change(sending, { share }), signal });
  }

  async function pause(sending, problem, seconds, signal) {
    for (let left = seconds; left > 0 && !signal.aborted; left -= 1) {
      change(sending, { phase: "again", seconds: left, problem });
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }

  function change(sending, facts) {
    Object.assign(sending, facts);
    onChange(sending);
  }

  return {
    /** Send a song when it is its turn. */
    add(sending) {
      change(sending, { phase: "waiting", share: 0, problem: null });
      line.push(sending);
      next();
    },
    /** Do not send a song, or stop in the middle of it. */
    stop(sending) {
      const place = line.indexOf(sending);
      if (place >= 0) line.splice(place, 1);
      stops.get(sending)?.abort();
    },
    /** Whether songs would be lost if the page went now. */
    get isBusy() {
      return stops.size > 0 || line.length > 0;
    },
  };
}

/**
 * Return why a song did not arrive.
 *
 * Of a line that broke the browser tells nothing: neither that the file is not there any more, nor that the server had
 * answered before all was sent, as it does when a song is too large.
 */
async function reasonOf(error, file) {
  if (!(error instanceof ApiError)) return new ApiError(String(error), { code: "unreadable" });
  if (error.code !== "unreachable" || !file) return error;
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    return new ApiError("", { code: "unreadableFile" });
  }
  try {
    await api.post("/apiv1/uploads", { size_bytes: file.size }); // the ticket is not used, and lapses
  } catch (refusal) {
    if (refusal.code === "payload_too_large") return refusal;
  }
  return error;
}

async function isAlive() {
  try {
    await api.fetch("/healthz", { cache: "no-store" });
    return true;
  } catch {
    return false;
  }
}
