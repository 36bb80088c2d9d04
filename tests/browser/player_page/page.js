// A page with a player and nothing else. It keeps every sample that goes to the loudspeakers, as a worklet of its own sees
// them in the running context, and asks again how the job stands, as the page proper does.

const query = new URLSearchParams(location.search);

/** Everything that was heard: blocks of { frame, left, right }. */
const heard = [];
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));

const { connect } = AudioNode.prototype;
const { resume } = AudioContext.prototype;
const last = new Set();
let recorder = null;

AudioNode.prototype.connect = function (target, ...rest) {
  if (this.context instanceof AudioContext && target === this.context.destination) {
    last.add(this);
    if (recorder) connect.call(this, recorder);
  }
  return connect.call(this, target, ...rest);
};

AudioContext.prototype.resume = async function () {
  window.context = this;
  if (!recorder) {
    await this.audioWorklet.addModule("recorder.js");
    recorder = new AudioWorkletNode(this, "recorder", { channelCount: 2, channelCountMode: "explicit" });
    recorder.port.onmessage = ({ data }) => heard.push(data);
    connect.call(recorder, this.destination);
    for (const node of last) connect.call(node, recorder);
  }
  return resume.call(this);
};

/** How many samples were heard since `forget`. */
window.heardSamples = () => heard.reduce((sum, { left }) => sum + left.length, 0);
window.forget = () => heard.splice(0);
/** What was heard, left and right in turn, as base64 of float32. */
window.heard = () => {
  const all = new Float32Array(2 * window.heardSamples());
  let at = 0;
  for (const { left, right } of heard) {
    for (let index = 0; index < left.length; index += 1) {
      all[at++] = left[index];
      all[at++] = right[index];
    }
  }
  return window.base64(all);
};
window.base64 = (samples) => {
  const bytes = new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength);
  let text = "";
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
};

class ApiError extends Error {
  constructor(status) {
    super(`answer ${status}`);
    this.status = status;
  }
}

const api = {
  async fetch(path, options) {
    const answer = await fetch(path, options);
    if (!answer.ok) throw new ApiError(answer.status);
    return answer;
  },
  json: async (path) => (await api.fetch(path)).json(),
};
const words = (await import(`/static/texts/player.${query.get("language") ?? "en"}.js`)).default;
const texts = (key, values = {}) => (words[key] ?? key).replace(/\{(\w+)\}/g, (place, name) => values[name] ?? place);
window.api = api;

if (query.has("job")) {
  const { mountPlayer } = await import("/static/player/player.js");
  const path = `/apiv1/jobs/${query.get("job")}`;
  const player = mountPlayer(document.querySelector("main"), await api.json(path), { api, texts });
  window.tell = async () => player.update(await api.json(path));
  window.destroy = () => player.destroy();
}
window.isReady = true;
