// How the player makes elements: text is only ever text, and nothing has an inline style or script.

const SVG = "http://www.w3.org/2000/svg";

/** Outlines of what buttons show, on a field of 24 by 24. */
const ICONS = {
  play: "M7 4.5v15l12.5-7.5z",
  pause: "M6.5 4.5h4v15h-4zM13.5 4.5h4v15h-4z",
  start: "M5 5h3v14H5zM19 5v14L9 12z",
  loop: "M7 7h9V3.5L21.5 8.500 16 13.500V10H8.500v3h-3V8.500A1.500 1.500 0 0 1 7 7zM17 17H8v3.500L2.500 15.500 8 10.500V14h7.500v-3h3v4.500A1.500 1.500 0 0 1 17 17z",
};

/**
 * Make an element: `on…` are listeners, `text` is its text, all else are attributes; false and null leave one out.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} attributes
 * @param {...(Node | string)} children
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** Make a button that does `onclick`. */
export function button(attributes, ...children) {
  return element("button", { type: "button", ...attributes }, ...children);
}

/** Make a picture for a button, which has its words besides. */
export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("aria-hidden", "true");
  picture.append(document.createElementNS(SVG, "path"));
  setIcon(picture, name);
  return picture;
}

/** Have a picture of `icon` show another. */
export function setIcon(picture, name) {
  picture.firstChild.setAttribute("d", ICONS[name]);
}
