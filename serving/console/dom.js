// Elements without templates: texts never become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes (true for a bare one, null and false for none) and children. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** The element of this id, which is in the page. */
export const byId = (id) => document.getElementById(id);

/** Set a custom property; unlike a style attribute it needs no hole in the page's policy. */
export function withProperty(node, name, value) {
  node.style.setProperty(name, value);
  return node;
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
