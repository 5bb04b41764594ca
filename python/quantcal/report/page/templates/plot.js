// Scales, ticks and axes. A picture is drawn for the width that it has, and again when that
// changes.
function linear(from, to, start, end) {
  var span = to - from || 1;
  return function (x) { return start + (x - from) / span * (end - start); };
}
function logarithmic(from, to, start, end) {
  var scale = linear(Math.log(from), Math.log(to), start, end);
  return function (x) { return scale(Math.log(Math.min(Math.max(x, from), to))); };
}
function linearTicks(from, to, most) {
  var raw = (to - from) / Math.max(most, 1), power = Math.pow(10, Math.floor(Math.log10(raw || 1)));
  var step = [1, 2, 5, 10].map(function (m) { return m * power; }).find(function (s) { return s >= raw; });
  var ticks = [];
  for (var k = Math.ceil(from / step); k * step <= to + step * 1e-6; k += 1) ticks.push(Number((k * step).toPrecision(8)));
  return ticks;
}
function logTicks(from, to, most) {
  var first = Math.ceil(Math.log10(from) - 1e-9), last = Math.floor(Math.log10(to) + 1e-9), ticks = [];
  var step = Math.max(1, Math.ceil((last - first + 1) / most));
  for (var k = first; k <= last; k += step) ticks.push(Number(Math.pow(10, k).toPrecision(6)));
  if (ticks.length < 2) {
    ticks = [];
    for (k = first - 1; k <= last; k += 1) [1, 2, 5].forEach(function (m) {
      var value = Number((m * Math.pow(10, k)).toPrecision(6));
      if (value >= from && value <= to) ticks.push(value);
    });
  }
  return ticks;
}
function picture(width, height, label) {
  return svg("svg", { viewBox: "0 0 " + width + " " + height, width: width, height: height, role: "img", "aria-label": label });
}
function line(x1, y1, x2, y2, kind) { return svg("line", { x1: x1, y1: y1, x2: x2, y2: y2, "class": kind }); }
function label(text, x, y, anchor, kind) {
  return svg("text", { x: x, y: y, "text-anchor": anchor || "start", "class": kind }, [text]);
}
function xAxis(root, scale, ticks, y, format, from) {
  var taken = [];
  // Zero comes first, so that its label has room.
  ticks.slice().sort(function (a, b) { return (b === 0) - (a === 0); }).forEach(function (tick) {
    var x = scale(tick), text = format(tick), half = text.length * 3.3 + 3;
    root.appendChild(line(x, from, x, y, "guide"));
    if (taken.some(function (one) { return x - half < one[1] && x + half > one[0]; })) return;
    root.appendChild(label(text, x, y + 15, "middle"));
    taken.push([x - half, x + half]);
  });
}
function yAxis(root, scale, ticks, x, format, to) {
  ticks.forEach(function (tick) {
    var y = scale(tick);
    root.appendChild(line(x, y, to, y, "guide"));
    root.appendChild(label(format(tick), x - 6, y + 4, "end"));
  });
}
function cut(text, most) {
  if (text.length <= most) return text;
  var head = Math.floor((most - 1) / 2);
  return text.slice(0, head) + "…" + text.slice(text.length - (most - 1 - head));
}
// Draws now and whenever the width changes.
function responsive(container, draw) {
  var last = 0;
  function again() {
    var width = Math.floor(container.clientWidth);
    if (!width || width === last) return;
    last = width;
    clear(container);
    draw(container, width);
  }
  again();
  if (window.ResizeObserver) new ResizeObserver(again).observe(container);
  else window.addEventListener("resize", again);
}
function legend(entries) {
  return el("div", { "class": "legend" }, entries.map(function (entry) {
    return el("span", {}, [el("i", { style: "background:" + entry[1] + (entry[2] ? ";opacity:" + entry[2] : "") }), entry[0]]);
  }));
}
