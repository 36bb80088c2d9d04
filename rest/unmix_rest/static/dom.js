// Making elements. What comes from people or the server becomes text, never HTML.

/**
 * Return a new element.
 *
 * @param {string} tag
 * @param {Record<string, unknown>} props properties of the element; names with a hyphen, and role, are attributes
 * @param {...(Node | string)} children
 */
export function make(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** Write `text` into an element if it says something else: screen readers and selections are left alone. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Return the element of the page with this id. */
export const byId = (id) => document.getElementById(id);
