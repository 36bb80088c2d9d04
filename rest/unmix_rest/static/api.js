// All HTTP of the page: JSON, files, and songs on their way up. Errors of every kind come as ApiError.

/** What a request came to when it is not what was asked for. */
export class ApiError extends Error {
  /**
   * @param {string} message what the service says, in its own words
   * @param {{code: string, status?: number, retryAfterSeconds?: number}} facts `code` is stable; "unreachable" and
   *   "unreadable" are ours, for no answer and for one that is none of this service; `status` is 0 without an answer
   */
  constructor(message, { code, status = 0, retryAfterSeconds = 0 }) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the same request may be answered otherwise in a while. */
  get isPassing() {
    return this.code === "unreachable" || this.status === 429 || this.status >= 502;
  }
}

let keyWanted = () => {};

/** Call `handler` whenever the server wants a key that it has not got. */
export const onKeyWanted = (handler) => (keyWanted = handler);

/** Return the answer to a request; anything but 2xx is thrown as ApiError, an abort as the browser has it. */
async function fetchAnswer(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(error.message, { code: "unreachable" });
  }
  if (!answer.ok) {
    throw problem(answer.status, await answer.text().catch(() => ""), answer.headers.get("Retry-After"));
  }
  return answer;
}

/** Return what the service answers as JSON; `options` as of fetch. */
async function fetchJson(path, options = {}) {
  const answer = await fetchAnswer(path, options);
  return read(await answer.text(), answer.status);
}

/** Send `fields` as JSON, and return the answer. */
async function postJson(path, fields = {}) {
  const headers = { "Content-Type": "application/json" };
  return fetchJson(path, { method: "POST", headers, body: JSON.stringify(fields) });
}

/**
 * Send a song as it is, and return the job that was made of it.
 *
 * XMLHttpRequest, as fetch does not tell how much has gone out. The file is read by the browser while it goes: its size
 * costs no memory.
 *
 * @param {File} file
 * @param {Record<string, string>} fields what is said of it: name, batch, options
 * @param {{onSent: (share: number) => void, signal: AbortSignal}} options `share` goes from 0 to 1
 */
function sendSong(file, fields, { onSent, signal }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open("POST", `/apiv1/jobs?${new URLSearchParams(fields)}`);
    // Whatever the file calls itself: a song is what its bytes are, and JSON would be read as something else.
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => onSent(event.lengthComputable ? event.loaded / event.total : 0);
    request.onload = () => {
      if (request.status < 200 || request.status > 299) {
        reject(problem(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(read(request.responseText, request.status));
      } catch (error) {
        reject(error);
      }
    };
    request.onerror = () => reject(new ApiError("", { code: "unreachable" }));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", abort);
    signal.addEventListener("abort", abort);
    request.send(file);
  });
}

function read(text, status) {
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError("", { code: "unreadable", status });
  }
}

/** Return what an answer says that is no success: a problem of this service, or whatever a proxy makes of it. */
function problem(status, text, retryAfter) {
  const retryAfterSeconds = Number.parseInt(retryAfter ?? "0", 10) || 0;
  try {
    const { code, error, detail } = JSON.parse(text);
    const message = String(error ?? detail ?? "");
    if (status === 401) keyWanted();
    if (typeof code === "string") return new ApiError(message, { code, status, retryAfterSeconds });
  } catch {
    // It was not this service that answered.
  }
  return new ApiError("", { code: "unreadable", status, retryAfterSeconds });
}

export const api = { fetch: fetchAnswer, json: fetchJson, post: postJson, sendSong };
