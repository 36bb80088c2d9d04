// The page from top to bottom: songs come in, are sent, become jobs, are watched, and are listened to.

import { byId, make } from "./dom.js";
import { songName } from "./files.js";
import { mountJobs } from "./jobs.js";
import { createLive } from "./live.js";
import { mountOptions } from "./options.js";
import { createSender } from "./sending.js";
import { mountSignIn } from "./signin.js";
import { batchOfThisBrowser } from "./songs.js";
import { fillPage } from "./texts.js";
import { allowLinks, mountUpload } from "./upload.js";

/** Longest name of a song, in characters, as the server has it. */
const MOST_NAME = 1000;

fillPage();
const batch = batchOfThisBrowser();

const options = mountOptions({ onModels: (answer) => allowLinks(answer.song_urls === true) });
const jobs = mountJobs({
  say,
  onReachable: (isReachable) => (byId("offline").hidden = isReachable),
  onOpenChanged: () => live.refresh(),
  onDone: options.refresh, // how long songs take is known better now
});
const live = createLive({ batch, open: jobs.open, onEvent: jobs.hear, look: jobs.look });
const sender = createSender({ onChange: jobs.onSending, onAccepted: jobs.onAccepted });
mountUpload({
  onFiles: (files) => jobs.send(files.map((file) => newSending(songName(file.name), { file }))),
  onLink: (url) => jobs.send([newSending(nameOfLink(url), { url })]),
});

mountSignIn({
  onSignedIn() {
    options.refresh();
    jobs.tryAgain();
  },
});
options.refresh();
jobs.start(sender);
addEventListener("beforeunload", (event) => {
  if (sender.isBusy) event.preventDefault(); // what is not sent yet would be lost
});

/** Return a song that is to be sent as the options are now. */
function newSending(name, { file = null, url = null }) {
  const fields = { ...options.fields(), batch, name: name.slice(0, MOST_NAME) };
  return { file, url, fields, phase: "waiting", share: 0, seconds: 0, problem: null };
}

/** Return what a song is called that a link leads to: as its file is, if that can be read. */
function nameOfLink(url) {
  try {
    return songName(decodeURIComponent(new URL(url).pathname.split("/").findLast(Boolean) ?? "")) || url;
  } catch {
    return url;
  }
}

/** Tell screen readers something, when they have said what they say now. */
function say(text) {
  const said = byId("said");
  said.append(make("p", {}, text));
  while (said.children.length > 5) said.firstChild.remove();
}
