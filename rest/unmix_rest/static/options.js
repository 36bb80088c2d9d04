// What is made of songs: model, stems and format in plain words, and what they cost on this server.

import { api } from "./api.js";
import { byId, make, write } from "./dom.js";
import { keep, recall } from "./songs.js";
import { about, texts } from "./texts.js";

const CHOICE = "unmix.choice";
/** All usual stems in one file: there is nothing to choose among. */
const ONE_FILE = "stem.mp4";
const FORMATS = ["mp3", "flac", "wav", "m4a", "opus", "ogg", ONE_FILE];
/** Those that can be had as a studio wants them, and what they are then. */
const STUDIO_FORMATS = ["flac", "wav"];
const STUDIO = { bits: "24", song_rate: "true" };
/** What the time is told for, in seconds: a song as songs are. */
const USUAL_SONG_SECONDS = 240;
/** Pause before models are asked for again that no worker has told of yet, in ms. */
const ASK_AGAIN_MS = 5000;

/** In the order of a mixing desk; what is not named here comes last. */
const SOURCES = ["vocals", "drums", "bass", "guitar", "piano", "other"];
const STEMS = [...SOURCES, "instrumental", ...SOURCES.map((source) => `no_${source}`)];

/** Whether a stem is the song less a source: it comes only to those who want it. */
const isLessOne = (stem) => stem === "instrumental" || stem.startsWith("no_");

/** Return stems in the order in which they are shown. */
export const inOrder = (stems) => {
  const place = (stem) => (STEMS.includes(stem) ? STEMS.indexOf(stem) : STEMS.length);
  return [...stems].sort((one, other) => place(one) - place(other));
};

/** Return what a stem is called. */
export const stemName = (stem) => texts.or(`stem.${stem}`, stem);

/**
 * Show what can be chosen.
 *
 * @param {{onModels: (answer: object) => void}} handlers called with each answer of `/apiv1/models`
 * @returns {{fields: () => Record<string, string>, refresh: () => Promise<void>}} `fields` of a song that is sent now:
 *   only what is not usual is named, as what is usual has ids that older clients know
 */
export function mountOptions({ onModels }) {
  const choice = recallChoice();
  let models = [];
  let timer = 0;

  const model = () => models.find((each) => each.name === choice.model) ?? models[0];
  const usual = () => (model()?.stems ?? []).filter((stem) => !isLessOne(stem));
  const isChosen = (stem) => (isLessOne(stem) ? choice.besides.includes(stem) : !choice.without.includes(stem));
  const isForStudio = () => choice.studio && STUDIO_FORMATS.includes(choice.format);
  const chosen = () => (choice.format === ONE_FILE ? usual() : (model()?.stems ?? []).filter(isChosen));

  function show() {
    const select = byId("model");
    byId("models").hidden = models.length < 2;
    select.replaceChildren(
      ...models.map(({ name }) => make("option", { value: name, selected: name === model()?.name }, modelName(name))),
    );
    byId("format").replaceChildren(
      ...FORMATS.map((each) =>
        make("option", { value: each, selected: each === choice.format }, texts(`format.${each}`)),
      ),
    );
    byId("studio").hidden = !STUDIO_FORMATS.includes(choice.format);
    byId("studio-box").checked = choice.studio;
    byId("stems").hidden = !model()?.stems || choice.format === ONE_FILE;
    showStems();
    const licence = model()?.weights?.licence;
    write(byId("licence"), licence ? texts("options.licence", { model: model().name, licence }) : "");
    showSummary();
  }

  /** Show a box for each stem; those that are there already stay, as one of them may have the focus. */
  function showStems() {
    const boxes = byId("stem-boxes");
    const wanted = inOrder(model()?.stems ?? []);
    if (wanted.join() !== [...boxes.querySelectorAll("input")].map((box) => box.value).join()) {
      boxes.replaceChildren(
        ...wanted.map((stem) => make("label", {}, make("input", { type: "checkbox", value: stem }), stemName(stem))),
      );
    }
    for (const box of boxes.querySelectorAll("input")) box.checked = isChosen(box.value);
  }

  function showSummary() {
    const isUsual = chosen().join() === usual().join();
    const stems = isUsual ? texts("options.allStems") : inOrder(chosen()).map(stemName).join(", ");
    const short = texts(`format.short.${choice.format}`);
    const format = isForStudio() ? texts("options.studioShort", { format: short }) : short;
    const perSecond = model()?.realtime_factor;
    const cost = perSecond
      ? texts("options.time", { time: about(perSecond * USUAL_SONG_SECONDS) })
      : texts("options.timeUnknown");
    write(byId("options-summary"), `${texts("options.summary", { stems, format })}, ${cost}`);
  }

  byId("options").addEventListener("change", ({ target }) => {
    if (target.id === "model") choice.model = target.value;
    else if (target.id === "format") choice.format = target.value;
    else if (target.id === "studio-box") choice.studio = target.checked;
    else {
      const checked = [...byId("stem-boxes").querySelectorAll("input:checked")].map((box) => box.value);
      // Nothing at all cannot be made: the last box stays checked.
      if (checked.length) {
        choice.without = usual().filter((stem) => !checked.includes(stem));
        choice.besides = checked.filter(isLessOne);
      }
    }
    keep(CHOICE, choice);
    show();
  });

  async function refresh() {
    clearTimeout(timer);
    try {
      const answer = await api.json("/apiv1/models");
      models = answer.models.filter((each) => each.offered);
      onModels(answer);
    } catch {
      models = []; // songs are made as the server makes them
    }
    show();
    if (!models[0]?.stems) timer = setTimeout(refresh, ASK_AGAIN_MS);
  }

  function fields() {
    const told = {};
    if (model() && !model().default) told.model = model().name;
    if (chosen().length && chosen().join() !== usual().join()) told.stems = chosen().join(",");
    if (choice.format !== FORMATS[0]) told.format = choice.format;
    return isForStudio() ? { ...told, ...STUDIO } : told;
  }

  show();
  return { fields, refresh };
}

/** Return what was chosen last in this browser, or what is usual. */
function recallChoice() {
  const { model, without, besides, format, studio } = recall(CHOICE) ?? {};
  return {
    model,
    without: Array.isArray(without) ? without : [],
    besides: Array.isArray(besides) ? besides : [],
    format: FORMATS.includes(format) ? format : FORMATS[0],
    studio: studio === true,
  };
}

const modelName = (name) => texts.or(`model.${name}`, name);
