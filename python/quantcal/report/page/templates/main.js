// Puts the page together: tables, the chosen tensor, pictures, theme and sections.
function plain(value) { return value === undefined ? NONE : value; }
var RANKS = { poor: 0, "no data": 1, check: 2, good: 3 };
var tensors = null, chosenRow = null, logAxis = true;

function choose(name, reveal) {
  var row = typeof name === "object" ? name : (DATA.tensors || []).find(function (each) { return each.name === name; });
  if (!row) return;
  chosenRow = row;
  tensors.mark(row, reveal);
  showDetail(row);
  var narrow = !window.matchMedia("(min-width: 1100px)").matches;
  if (reveal) byId(narrow ? "detail" : "tensors").scrollIntoView({ block: "start" });
  try { history.replaceState(null, "", "#tensor=" + encodeURIComponent(row.name)); } catch (error) { /* some viewers refuse it */ }
}
function section(title, button) { return el("div", { "class": "sub" }, [el("h4", {}, [title]), button]); }
function showDetail(row) {
  var place = clear(byId("detail")), detail = row.detail || {};
  function step(text, by, name) {
    var next = tensors.neighbor(row, by);
    return el("button", { type: "button", "aria-label": name, title: name, disabled: !next, onclick: function () { choose(next, false); tensors.mark(next, true); } }, [text]);
  }
  place.appendChild(el("div", { "class": "head" }, [el("h3", {}, [row.name]), el("div", {}, [step("↑", -1, "Previous tensor"), step("↓", 1, "Next tensor")])]));
  place.appendChild(el("p", {}, [badge(row.verdict), row.verdict && row.op ? " · " : "", row.op || "", row.node ? " · " + row.node : ""]));
  if (row.reasons) place.appendChild(el("ul", { "class": "reasons" }, row.reasons.map(function (text) { return el("li", {}, [text]); })));
  var facts = [
    ["SQNR", row.sqnr, decibels], ["clipped", row.clipped, share], ["rounded to zero", row.tozero, share],
    ["strategy", row.method, plain], ["format", row.format, plain],
    ["range", row.low, function () { return real(row.low) + " … " + real(row.high); }],
    ["scale", detail.grid && detail.grid.scale, real],
    ["observed", row.min, function () { return real(row.min) + " … " + real(row.max); }],
    ["0.1 … 99.9 %", row.p0_1, function () { return real(row.p0_1) + " … " + real(row.p99_9); }],
    ["median", row.p50, real], ["values", row.count, amount],
    ["NaN and infinite", row.nonfinite || undefined, amount],
    ["loss alone", row.sens, real], ["SQNR in the model", row.layer, decibels]
  ].filter(function (fact) { return fact[1] !== undefined && fact[1] !== null; });
  place.appendChild(el("dl", { "class": "facts" }, facts.map(function (fact) {
    return el("div", {}, [el("dt", {}, [fact[0]]), el("dd", {}, [fact[2](fact[1])])]);
  })));
  if (detail.buckets) {
    var toggle = el("button", { type: "button", "aria-pressed": String(!logAxis) }, [logAxis ? "Linear axis" : "Log axis"]);
    toggle.addEventListener("click", function () { logAxis = !logAxis; showDetail(row); byId("detail").querySelector(".sub button").focus(); });
    place.appendChild(section("Distribution and ranges", toggle));
    if (detail.grid && !detail.grid.channels) place.appendChild(legend([["clipped", "var(--clip)", 0.4], ["rounds to zero", "var(--zero)", 0.5], ["levels of the format", "var(--ink)", 0.5]]));
    var plot = el("div", { "class": "plot", id: "plot-distribution" });
    place.appendChild(plot);
    responsive(plot, function (at, width) { drawDistribution(at, width, row, logAxis); });
    if (detail.curve) {
      place.appendChild(section("Error by threshold"));
      place.appendChild(el("p", { "class": "note" }, [detail.channels
        ? "The line has one range for all channels, a dot one for each channel, by a strategy in its color above."
        : "Lower thresholds clip more and round less. A dot for each strategy, in its color above."]));
      var curve = el("div", { "class": "plot", id: "plot-curve" });
      place.appendChild(curve);
      responsive(curve, function (at, width) { drawCurve(at, width, row); });
    }
  } else if (!detail.grid) {
    place.appendChild(el("p", { "class": "note" }, ["There is no histogram of this tensor. Give the histograms (.qcal) to see its distribution."]));
  } else if (detail.grid) {
    place.appendChild(el("p", { "class": "note" }, ["The range is known, but not the histogram. Give the histograms (.qcal) to see the distribution."]));
  }
  if (detail.channels) {
    place.appendChild(section("Extremes by channel, axis " + detail.channels.axis));
    place.appendChild(heatMap(detail.channels.high, detail.channels.count, detail.channels.low));
  }
}
function showTensors() {
  var rows = DATA.tensors;
  tensors = makeTable(byId("tensor-table"), {
    name: "tensors", caption: "Tensors with their figures", rows: rows, order: "Graph order",
    choose: choose, selects: [{ key: "op", label: "Operator" }, { key: "verdict", label: "Verdict" }, { key: "kinds", label: "Reason" }],
    columns: [
      { key: "name", label: "Tensor", text: true },
      { key: "spark", label: "Distribution", text: true, show: sparkOf, title: "From the minimum to the maximum; heights are logarithms of counts" },
      { key: "verdict", label: "Verdict", text: true, show: badge, rank: function (v) { return RANKS[v]; }, title: "Good from 30 dB on without a reason to doubt; poor below 20 dB" },
      { key: "sqnr", label: "SQNR", show: decibels, title: "Signal to quantization noise ratio of this tensor alone" },
      { key: "clipped", label: "Clipped", show: share, title: "Share of values that saturation moves further than rounding" },
      { key: "tozero", label: "To zero", show: share, title: "Share of values that round to zero" },
      { key: "method", label: "Strategy", text: true },
      { key: "low", label: "Low", show: real }, { key: "high", label: "High", show: real },
      { key: "op", label: "Operator", text: true },
      { key: "sens", label: "Sensitivity", show: real, title: "Loss of the outputs if this tensor alone is rounded" },
      { key: "layer", label: "In the model", show: decibels, title: "SQNR of this tensor in the quantized model, all errors before it included" },
      { key: "min", extra: true, label: "Min", show: real }, { key: "p0_1", extra: true, label: "0.1 %", show: real }, { key: "p50", extra: true, label: "Median", show: real },
      { key: "p99_9", extra: true, label: "99.9 %", show: real }, { key: "max", extra: true, label: "Max", show: real },
      { key: "count", extra: true, label: "Count", show: amount }, { key: "nonfinite", extra: true, label: "NaN/inf", show: amount },
      { key: "format", extra: true, label: "Format", text: true }, { key: "node", extra: true, label: "Node", text: true }
    ]
  });
  var wanted = /^#tensor=(.*)$/.exec(location.hash), name = null;
  try { name = wanted && decodeURIComponent(wanted[1]); } catch (error) { name = null; }
  var first = rows.find(function (row) { return row.name === name; });
  if (first) { choose(first, true); return; }
  // The worst one is the most interesting.
  var judged = rows.filter(function (row) { return isFinite(num(row.sqnr)); });
  first = judged.reduce(function (a, b) { return num(b.sqnr) < num(a.sqnr) ? b : a; }, judged[0] || rows[0]);
  chosenRow = first;
  tensors.mark(first, false);
  showDetail(first);
}
function showWeights() {
  var rows = DATA.weights, shown = el("div", { id: "weight-heat" });
  var table = makeTable(byId("weight-table"), {
    name: "weights", caption: "Weights stored as codes", rows: rows, order: "Graph order",
    choose: function (row) { table.mark(row, false); show(row); }, selects: [{ key: "op", label: "Operator" }, { key: "format", label: "Format" }],
    columns: [
      { key: "name", label: "Weight", text: true }, { key: "op", label: "Operator", text: true }, { key: "node", label: "Node", text: true },
      { key: "format", label: "Format", text: true }, { key: "shape", label: "Shape", text: true }, { key: "channels", label: "Scales", show: amount },
      { key: "sqnr", label: "SQNR", show: decibels }, { key: "max", label: "Max", show: real },
      { key: "scaled", label: "Note", text: true, show: function (v) { return v ? "channels were scaled before" : ""; } }
    ]
  });
  function show(row) {
    clear(shown).appendChild(section(row.name + (row.channels ? ": extremes by channel" : ": one scale")));
    shown.appendChild(heatMap(row.maxima, row.channels || 1));
  }
  byId("weight-table").appendChild(shown);
  var worst = rows.reduce(function (a, b) { return num(b.sqnr) < num(a.sqnr) ? b : a; }, rows[0]);
  table.mark(worst, false);
  show(worst);
}
function showStability() {
  makeTable(byId("stability-table"), {
    name: "stability", caption: "Difference of ranges between two halves", rows: DATA.stability, order: "Largest first",
    choose: function (row) { choose(row.name, true); },
    columns: [
      { key: "name", label: "Tensor", text: true },
      { key: "difference", label: "Difference", show: share, title: "Distance of the ends, as a share of the range of all data" },
      { key: "loss", label: "Loss", show: function (v) { return decibels(v) === "exact" ? "∞" : decibels(v); }, title: "SQNR that a half loses with the other's range" }
    ]
  });
}
function showPlots() {
  [["plot-layers", drawLayers], ["plot-tuning", drawTuning], ["plot-methods", drawMethods], ["plot-ranges", drawRanges], ["plot-accuracies", drawAccuracies]].forEach(function (each) {
    var place = byId(each[0]);
    if (place) responsive(place, each[1]);
  });
  var steps = byId("method-steps");
  if (steps) DATA.methods.steps.forEach(function (step) {
    steps.appendChild(el("dt", {}, [step.name]));
    steps.appendChild(el("dd", {}, [step.text]));
  });
}
function showTheme() {
  var button = byId("theme"), themes = ["auto", "light", "dark"], key = "quantcal-report-theme", theme = "auto";
  try { theme = localStorage.getItem(key) || "auto"; } catch (error) { /* not allowed for some files */ }
  function apply() {
    if (themes.indexOf(theme) < 0) theme = "auto";
    if (theme === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme);
    button.textContent = "Theme: " + theme;
  }
  button.addEventListener("click", function () {
    theme = themes[(themes.indexOf(theme) + 1) % 3];
    try { localStorage.setItem(key, theme); } catch (error) { /* it then lasts for this view */ }
    apply();
  });
  apply();
}
Array.prototype.forEach.call(document.querySelectorAll("section[data-nav]"), function (each) {
  byId("toc").appendChild(el("a", { href: "#" + each.id }, [each.getAttribute("data-nav")]));
});
showTheme();
byId("print").addEventListener("click", function () { window.print(); });
if (byId("tensor-table")) showTensors();
if (byId("weight-table")) showWeights();
if (byId("stability-table")) showStability();
showPlots();
document.addEventListener("click", function (event) {
  var link = event.target.closest && event.target.closest("[data-tensor]");
  if (link) choose(link.getAttribute("data-tensor"), true);
});
window.addEventListener("hashchange", function () {
  var wanted = /^#tensor=(.*)$/.exec(location.hash);
  if (!wanted) return;
  try { choose(decodeURIComponent(wanted[1]), true); } catch (error) { /* no such name */ }
});
document.documentElement.setAttribute("data-ready", "true");
