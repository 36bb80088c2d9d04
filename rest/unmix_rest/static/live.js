// How jobs go, told as it happens: one stream of events for all songs of this browser, and polling where it fails.

/** How often jobs are asked for while there is a stream, in ms: it may be dead without knowing. */
const SLOW_MS = 30_000;
/** How often without one. */
const QUICK_MS = 3_000;
/** When a stream is tried again that was refused, in ms; one that broke is taken up again by the browser. */
const STREAM_AGAIN_MS = 20_000;
/** Jobs that are asked for at a time: with many songs the others have their turn next. */
const ASKED_AT_ONCE = 6;
const EVENTS = ["queued", "started", "progress", "part", "done", "failed", "cancelled", "removed"];

/**
 * Watch the jobs that are not over.
 *
 * @param {object} options
 * @param {string} options.batch of all songs of this browser
 * @param {() => string[]} options.open the ids of jobs that are to be watched
 * @param {(event: object) => void} options.onEvent called with the data of each event
 * @param {(id: string) => Promise<void>} options.look asks for one job, and shows it
 * @returns {{refresh: () => void}} `refresh` is to be called when there are other jobs to watch
 */
export function createLive({ batch, open, onEvent, look }) {
  let source = null;
  let refusedAt = -Infinity;
  let timer = 0;
  let turn = 0;

  function refresh() {
    if (!open().length) {
      source?.close();
      source = null;
      clearTimeout(timer);
      timer = 0;
      return;
    }
    if (!source && performance.now() - refusedAt > STREAM_AGAIN_MS) connect();
    timer ||= setTimeout(poll, source?.readyState === EventSource.OPEN ? SLOW_MS : QUICK_MS);
  }

  function connect() {
    source = new EventSource(`/apiv1/events?${new URLSearchParams({ batch })}`);
    for (const kind of EVENTS) source.addEventListener(kind, (event) => onEvent(JSON.parse(event.data)));
    source.onopen = pollLater;
    source.onerror = () => {
      if (source?.readyState === EventSource.CLOSED) {
        source = null;
        refusedAt = performance.now();
      }
      pollLater(); // now that there is no stream it is soon
    };
  }

  function pollLater() {
    clearTimeout(timer);
    timer = 0;
    refresh();
  }

  async function poll() {
    const ids = open();
    const asked = ids.length > ASKED_AT_ONCE ? [...ids, ...ids].slice(turn % ids.length).slice(0, ASKED_AT_ONCE) : ids;
    turn += ASKED_AT_ONCE;
    await Promise.all(asked.map(look));
    pollLater();
  }

  // A page in the background is told late, or not at all.
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && timer) {
      clearTimeout(timer);
      poll();
    }
  });
  return { refresh };
}
