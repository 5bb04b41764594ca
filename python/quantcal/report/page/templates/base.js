// Small helpers: elements, numbers, the tip. All text goes through text nodes, so that no
// name is ever read as HTML.
var SVG = "http://www.w3.org/2000/svg";
var DATA = JSON.parse(document.getElementById("data").textContent);
var NONE = "–";

function fill(node, attributes, children) {
  Object.keys(attributes || {}).forEach(function (key) {
    var value = attributes[key];
    if (value === null || value === undefined || value === false) return;
    if (key.slice(0, 2) === "on") node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  });
  (children || []).forEach(function (child) {
    if (child === null || child === undefined) return;
    node.appendChild(typeof child === "object" ? child : document.createTextNode(String(child)));
  });
  return node;
}
function el(tag, attributes, children) { return fill(document.createElement(tag), attributes, children); }
function svg(tag, attributes, children) { return fill(document.createElementNS(SVG, tag), attributes, children); }
function byId(id) { return document.getElementById(id); }
function clear(node) { while (node.firstChild) node.removeChild(node.firstChild); return node; }

// JSON has no infinities, so they are texts there.
function num(value) {
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return typeof value === "number" ? value : NaN;
}
function minus(text) { return text.replace(/-/g, "−"); }
function real(value) {
  var x = num(value);
  if (isNaN(x)) return NONE;
  if (!isFinite(x)) return x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  var size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) {
    var parts = x.toExponential(2).split("e");
    return minus(parts[0].replace(/\.?0+$/, "") + "e" + Number(parts[1]));
  }
  return minus(String(Number(x.toPrecision(4))));
}
function share(value) {
  var x = num(value);
  if (isNaN(x)) return NONE;
  if (x === 0 || x === 1) return 100 * x + " %";
  if (x < 1e-5) return "<0.001 %";
  if (x > 0.999) return ">99.9 %";
  var percent = 100 * x;
  return percent.toFixed(percent < 1 ? 3 : percent < 10 ? 2 : 1) + " %";
}
function decibels(value) {
  var x = num(value);
  if (isNaN(x)) return NONE;
  return x === Infinity ? "exact" : minus(x.toFixed(1)) + " dB";
}
function amount(value) {
  var x = num(value), units = ["", "K", "M", "G", "T", "P"], k = 0;
  if (isNaN(x)) return NONE;
  if (x < 10000) return String(x);
  while (x >= 999.5 && k < 5) { x /= 1000; k += 1; }
  return Number(x.toPrecision(3)) + units[k];
}

var tip = byId("tip");
function tell(text, at) {
  tip.textContent = text;
  tip.hidden = false;
  var box = at.getBoundingClientRect();
  var left = Math.min(Math.max(6, box.left + box.width / 2 - tip.offsetWidth / 2), document.documentElement.clientWidth - tip.offsetWidth - 6);
  var top = box.top - tip.offsetHeight - 8;
  if (top < 4) top = box.bottom + 8;
  tip.style.left = left + "px";
  tip.style.top = top + "px";
}
function hush() { tip.hidden = true; }
function withTip(node, text) {
  node.addEventListener("mouseenter", function () { tell(text, node); });
  node.addEventListener("focus", function () { tell(text, node); });
  node.addEventListener("mouseleave", hush);
  node.addEventListener("blur", hush);
  return node;
}
document.addEventListener("keydown", function (event) { if (event.key === "Escape") hush(); });
document.addEventListener("scroll", hush, true);
