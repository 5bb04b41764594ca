// Pictures of the whole model: loss along the graph, strategies, tuning.
function lossRange(values) {
  var known = values.map(num).filter(function (v) { return v > 0 && isFinite(v); });
  if (!known.length) return [1e-6, 1];
  var low = Math.min.apply(null, known), high = Math.max.apply(null, known);
  return [Math.pow(10, Math.floor(Math.log10(low))), Math.pow(10, Math.ceil(Math.log10(high) + 1e-9))];
}
function drawLayers(container, width) {
  var layers = DATA.layers, kinds = ["exact", "native", "own"].filter(function (kind) {
    return layers.some(function (layer) { return !isNaN(num(layer[kind])); });
  });
  var names = { exact: "accumulated, exact", native: "accumulated, native", own: "added by the node alone" };
  var colors = { exact: "var(--m0)", native: "var(--m1)", own: "var(--m2)" };
  container.appendChild(legend(kinds.map(function (kind) { return [names[kind], colors[kind]]; })));
  var height = 270, left = 52, right = width - 10, upper = 8, lower = height - 30;
  var root = picture(width, height, "Loss at " + layers.length + " quantized nodes along the graph");
  var values = [];
  kinds.forEach(function (kind) { layers.forEach(function (layer) { values.push(layer[kind]); }); });
  var ends = lossRange(values);
  var x = linear(0, Math.max(layers.length - 1, 1), left + 8, right - 8), y = logarithmic(ends[0], ends[1], lower, upper);
  yAxis(root, y, logTicks(ends[0], ends[1], 7), left, real, right);
  root.appendChild(line(left, lower, right, lower, "axis"));
  root.appendChild(label("first node", left, height - 10));
  root.appendChild(label("last node", right, height - 10, "end"));
  ["native", "exact"].forEach(function (kind) {
    if (kinds.indexOf(kind) < 0) return;
    var path = "", pen = "M";
    layers.forEach(function (layer, k) {
      var value = num(layer[kind]);
      if (isNaN(value)) { pen = "M"; return; }
      path += pen + x(k).toFixed(1) + " " + y(Math.max(value, ends[0])).toFixed(1);
      pen = "L";
    });
    root.appendChild(svg("path", { d: path, "class": kind, "stroke-width": kind === "exact" ? 2 : 1.4, "stroke-dasharray": kind === "native" ? "5 3" : null }));
  });
  var dots = []; // one is reached by Tab, the others by arrows
  var size = layers.length > 150 ? 2.4 : 3.6;
  layers.forEach(function (layer, k) {
    var text = layer.node + " (" + layer.op + ")" + kinds.map(function (kind) { return "\n" + names[kind] + ": " + real(layer[kind]); }).join("");
    var own = num(layer.own);
    if (!isNaN(own)) root.appendChild(withTip(svg("circle", { cx: x(k), cy: y(Math.max(own, ends[0])), r: size, "class": "own" }), text));
    var main = num(layer[kinds[0]]);
    if (isNaN(main)) return;
    var dot = svg("circle", { cx: x(k), cy: y(Math.max(main, ends[0])), r: size + 0.6, "class": "dot c0", tabindex: dots.length ? -1 : 0, role: "button", "aria-label": text });
    dot.addEventListener("click", function () { choose(layer.tensor, true); });
    dots.push(dot);
    dot.addEventListener("keydown", function (event) {
      var by = { ArrowRight: 1, ArrowLeft: -1 }[event.key], next = by && dots[dots.indexOf(dot) + by];
      if (event.key === "Enter" || event.key === " ") choose(layer.tensor, true);
      else if (next) { dot.setAttribute("tabindex", -1); next.setAttribute("tabindex", 0); next.focus(); }
      else return;
      event.preventDefault();
    });
    root.appendChild(withTip(dot, text));
  });
  container.appendChild(root);
}
// A row for each entry: a name, an interval, and a point.
function drawRows(container, width, rows, options) {
  var left = Math.min(150, width * 0.36), right = width - 74, step = 26, upper = 6, lower = upper + step * rows.length;
  var root = picture(width, lower + 30, options.label);
  var x = options.log ? logarithmic(options.from, options.to, left, right) : linear(options.from, options.to, left, right);
  var ticks = options.log ? logTicks(options.from, options.to, Math.max(2, (right - left) / 60)) : linearTicks(options.from, options.to, Math.max(3, (right - left) / 40));
  if (options.band) root.appendChild(svg("rect", { x: x(options.band[0]), y: upper, width: Math.max(x(options.band[1]) - x(options.band[0]), 1), height: lower - upper, "class": "reference" }));
  xAxis(root, x, ticks, lower, options.tick, upper);
  rows.forEach(function (row, k) {
    var y = upper + step * k + step / 2, kind = row.chosen ? "chosen" : "range";
    root.appendChild(label(cut(row.name, Math.floor(left / 7)), left - 8, y + 4, "end", row.chosen ? "strong" : null));
    if (row.low < row.high) root.appendChild(svg("rect", { x: x(row.low), y: y - 3.5, width: Math.max(x(row.high) - x(row.low), 1.5), height: 7, rx: 3, "class": kind, opacity: 0.55 }));
    if (row.second !== undefined && !isNaN(row.second)) root.appendChild(svg("path", { d: "M" + x(row.second) + " " + (y - 5) + "l5 5l-5 5l-5 -5z", "class": "c1" }));
    root.appendChild(withTip(svg("circle", { cx: x(row.at), cy: y, r: 5, "class": row.chosen ? "chosen" : "c0" }), row.text));
    root.appendChild(label(row.figure, width - 2, y + 4, "end", row.chosen ? "strong" : null));
  });
  container.appendChild(root);
}
function drawMethods(container, width) {
  var data = DATA.methods, show = data.metric ? real : share;
  var rows = data.rows.map(function (row) {
    return { name: row.name, at: num(row.loss), low: num(row.low), high: num(row.high), chosen: row.name === data.chosen, figure: show(row.loss),
      text: row.name + ": " + show(row.loss) + "\n95 %: " + show(row.low) + " to " + show(row.high) + ", " + row.samples + " samples" };
  });
  var all = [];
  rows.forEach(function (row) { all.push(row.at, row.low, row.high); });
  var isLog = all.every(function (v) { return !(v < 0); }), ends = lossRange(all);
  var known = all.filter(isFinite);
  if (!isLog) ends = [Math.min.apply(null, known), Math.max.apply(null, known)];
  drawRows(container, width, rows, { log: isLog, from: ends[0], to: ends[1], tick: show, label: "Loss of each strategy" });
}
function drawRanges(container, width) {
  var counts = {};
  (DATA.tensors || []).forEach(function (row) { counts[row.method] = (counts[row.method] || 0) + 1; });
  var rows = DATA.ranges.map(function (row) {
    return { name: row.name, at: num(row.median), low: num(row.min), high: num(row.median), chosen: counts[row.name] > DATA.tensors.length / 2, figure: decibels(row.median),
      text: row.name + "\nmedian " + decibels(row.median) + ", minimum " + decibels(row.min) + "\nbest for " + row.best + " of " + row.tensors + " tensors" };
  });
  var low = Math.min.apply(null, rows.map(function (r) { return r.low; })), high = Math.max.apply(null, rows.map(function (r) { return r.at; }));
  drawRows(container, width, rows, { from: Math.min(low, high - 1), to: high + 1, tick: function (v) { return minus(String(v)); }, label: "SQNR of each strategy over all tensors" });
}
function drawAccuracies(container, width) {
  container.appendChild(legend([["exact", "var(--m0)"], ["kernels", "var(--m1)"]]));
  var base = DATA.accuracies[0], rows = DATA.accuracies.map(function (row) {
    var at = num(row.exact), margin = num(row.margin) || 0;
    return { name: row.name, at: at, low: at - margin, high: at + margin, second: num(row.native), figure: at.toFixed(3), text: row.name + "\nexact " + at.toFixed(3) + ", kernels " + num(row.native).toFixed(3) + " ± " + margin.toFixed(3) };
  });
  var low = Math.min.apply(null, rows.map(function (r) { return Math.min(r.low, r.second); })), high = Math.max.apply(null, rows.map(function (r) { return r.high; }));
  drawRows(container, width, rows, { from: low, to: high, band: [num(base.exact) - num(base.margin), num(base.exact) + num(base.margin)], tick: function (v) { return v.toFixed(2); }, label: "Accuracy of each strategy" });
}
function drawTuning(container, width) {
  var data = DATA.tuning, timed = data.points.every(function (p) { return !isNaN(num(p.ms)); });
  var height = 290, left = 52, right = width - 14, upper = 22, lower = height - 44;
  var root = picture(width, height, "Drop of " + data.points.length + " models against " + (timed ? "latency" : "nodes in float"));
  var at = function (p) { return timed ? num(p.ms) : p.in_float; };
  var xs = data.points.map(at), drops = data.points.map(function (p) { return num(p.drop); });
  var promise = num(data.promise), values = drops.concat([promise]);
  var low = Math.min.apply(null, xs), high = Math.max.apply(null, xs), pad = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
  var x = linear(low - pad, high + pad, left, right);
  var isLog = values.every(function (v) { return v > 0; }), ends = isLog ? lossRange(values) : [Math.min.apply(null, values), Math.max.apply(null, values)];
  var y = isLog ? logarithmic(ends[0], ends[1], lower, upper) : linear(ends[0], ends[1], lower, upper);
  xAxis(root, x, linearTicks(low - pad, high + pad, Math.max(2, width / 90)), lower, real, upper);
  yAxis(root, y, isLog ? logTicks(ends[0], ends[1], 6) : linearTicks(ends[0], ends[1], 5), left, real, right);
  root.appendChild(label(timed ? "ms of a sample" : "nodes in float", right, height - 8, "end"));
  root.appendChild(label("drop", left - 6, 10, "end"));
  root.appendChild(line(left, y(promise), right, y(promise), "promise"));
  root.appendChild(label("promise " + real(promise), right - 2, y(promise) - 5, "end"));
  // The front: no other model is both faster and better.
  var front = data.points.filter(function (p) {
    return !data.points.some(function (q) { return at(q) <= at(p) && num(q.drop) <= num(p.drop) && (at(q) < at(p) || num(q.drop) < num(p.drop)); });
  }).sort(function (a, b) { return at(a) - at(b); });
  root.appendChild(svg("path", { d: front.map(function (p, k) { return (k ? "L" : "M") + x(at(p)) + " " + y(num(p.drop)); }).join(""), "class": "edge" }));
  data.points.forEach(function (p) {
    var isChosen = p.in_float === data.chosen && (num(p.drop) <= promise || data.points.length === 1);
    var text = p.in_float + " nodes in float\ndrop " + real(p.drop) + (timed ? ", " + real(p.ms) + " ms" : "") + (isChosen ? "\nchosen" : "");
    root.appendChild(withTip(svg("circle", { cx: x(at(p)), cy: y(num(p.drop)), r: isChosen ? 7 : 4.5, "class": isChosen ? "chosen" : "c0", tabindex: 0, "aria-label": text }), text));
  });
  container.appendChild(root);
}
