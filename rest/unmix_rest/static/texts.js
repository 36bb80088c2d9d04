// What the page says, in the language of whoever looks at it. Each language is a file of texts/; only one is loaded.

/** The languages that there are, as files of texts/; the first one is for everybody else. */
const LANGUAGES = ["en", "de"];

/** The language of the page: the first that the browser's owner reads and the page has. */
export const language =
  navigator.languages.map((tag) => tag.toLowerCase().split("-")[0]).find((each) => LANGUAGES.includes(each)) ??
  LANGUAGES[0];

const words = new Map(Object.entries((await import(`./texts/${language}.js`)).default));

/**
 * Return a text with its places filled: `texts("job.place", {place: 3})` fills `{place}`.
 *
 * A key that there is no text for is returned as it is, which shows at once.
 */
export function texts(key, values = {}) {
  const text = words.get(key) ?? key;
  return text.replace(/\{(\w+)\}/g, (place, name) => (name in values ? String(values[name]) : place));
}

/** Return the text of a key if there is one, else what is given instead: for words that the server chooses. */
texts.or = (key, instead, values = {}) => (words.has(key) ? texts(key, values) : instead);

/** Add the texts of a part of the page that is loaded when it is used. */
texts.add = (more) => {
  for (const [key, text] of Object.entries(more)) words.set(key, text);
};

/** Write the texts of the page itself: `data-text` and `data-label` of its elements name them. */
export function fillPage(root = document) {
  document.documentElement.lang = language;
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = texts(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", texts(element.dataset.label));
    if (element.type === "search") element.placeholder = texts(element.dataset.label);
  }
}

/** Return about how long something takes, as people say it. */
export function about(seconds) {
  if (seconds < 1.5) return texts("time.second");
  if (seconds < 90) return texts("time.seconds", { count: Math.round(seconds) });
  return seconds < 5400
    ? texts("time.minutes", { count: Math.round(seconds / 60) })
    : texts("time.hours", { count: (seconds / 3600).toLocaleString(language, { maximumFractionDigits: 1 }) });
}
