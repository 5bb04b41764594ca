// Pictures of one tensor: distribution with ranges and grid, error by threshold, channels.
var PER_OCTAVE = 6;
var LOG_GAP = 16; // half the width of the place of zero

// Octaves below the largest magnitude: all that the grid resolves, and 99 % of the values.
function octavesOf(buckets, grid) {
  var longest = Math.max(buckets.pos.length, buckets.neg.length), counts = [], whole = 0, seen = 0;
  for (var k = 0; k < longest; k += 1) { counts.push((buckets.pos[k] || 0) + (buckets.neg[k] || 0)); whole += counts[k]; }
  for (k = 0; k < longest && seen < 0.99 * (whole + buckets.tiny); k += 1) seen += counts[k];
  return Math.max(Math.ceil(k / PER_OCTAVE), grid && !grid.float ? Math.min(grid.bits, 10) + 1 : 8);
}
// The axis of values: logarithmic on both sides of zero, or linear.
function valueAxis(buckets, grid, left, right, isLog) {
  var top = buckets.top, reach = Math.max(top, grid ? Math.max(-num(grid.low), num(grid.high)) : 0);
  var octaves = octavesOf(buckets, grid);
  var signed = buckets.neg.length > 0, positive = buckets.pos.length > 0;
  if (!isLog) {
    var low = signed ? -reach : 0, high = positive ? reach : 0;
    if (!signed) low = -0.03 * reach;
    var scale = linear(low, high || 0.03 * reach, left, right);
    return { x: scale, log: false, ticks: linearTicks(low, high, Math.max(3, (right - left) / 70)) };
  }
  var bottom = top * Math.pow(2, -octaves);
  // Each side is as wide as it has octaves.
  function extent(side, end) {
    var first = buckets[side].findIndex(function (count) { return count > 0; });
    return Math.max(first < 0 ? 0 : top * Math.pow(2, -first / PER_OCTAVE), end || 0, bottom * 2);
  }
  var farLow = signed ? extent("neg", grid && -num(grid.low)) * 1.06 : 0, farHigh = positive ? extent("pos", grid && num(grid.high)) * 1.06 : 0;
  var lowOctaves = signed ? Math.log2(farLow / bottom) : 0, highOctaves = positive ? Math.log2(farHigh / bottom) : 0;
  var room = right - left - 2 * LOG_GAP, center = left + LOG_GAP + room * lowOctaves / (lowOctaves + highOctaves || 1);
  var up = logarithmic(bottom, farHigh || 1, center + LOG_GAP, right);
  var down = logarithmic(bottom, farLow || 1, center - LOG_GAP, left);
  function ticksOf(far, octaves, sign) {
    var wide = room * octaves / (lowOctaves + highOctaves);
    return logTicks(bottom, far, Math.max(1, wide / 36)).filter(function (tick) {
      return Math.log2(tick / bottom) / octaves * wide > 14;
    }).map(function (tick) { return sign * tick; });
  }
  var ticks = [0].concat(positive ? ticksOf(farHigh, highOctaves, 1) : [], signed ? ticksOf(farLow, lowOctaves, -1) : []);
  ticks.sort(function (a, b) { return a - b; });
  return {
    log: true, center: center, ticks: ticks, bottom: bottom,
    x: function (value) {
      if (Math.abs(value) < bottom) return center;
      return value > 0 ? (positive ? up(value) : right) : (signed ? down(-value) : left);
    }
  };
}
function bars(buckets, axis) {
  var found = [];
  found.small = buckets.tiny;
  [["pos", 1], ["neg", -1]].forEach(function (side) {
    buckets[side[0]].forEach(function (count, k) {
      if (!count) return;
      var high = buckets.top * Math.pow(2, -k / PER_OCTAVE), low = buckets.top * Math.pow(2, -(k + 1) / PER_OCTAVE);
      if (axis.log && low < axis.bottom * 0.999) { found.small += count; return; }
      var a = axis.x(side[1] * low), b = axis.x(side[1] * high);
      found.push({ from: Math.min(a, b), to: Math.max(a, b), low: side[1] * low, high: side[1] * high, count: count, height: axis.log ? count : count / (high - low) });
    });
  });
  return found;
}
function levelsOf(grid) {
  var scale = num(grid.scale), found = [], match = /^float\d+_e(\d)m(\d)/.exec(grid.format), k;
  if (match) {
    var bias = Math.pow(2, Number(match[1]) - 1) - 1, steps = Math.pow(2, Number(match[2]));
    for (var e = 0; e < Math.pow(2, Number(match[1])); e += 1) for (k = 0; k < steps; k += 1) {
      var level = (e ? 1 + k / steps : k / steps) * Math.pow(2, (e || 1) - bias) * scale;
      if (level <= num(grid.high) * 1.0001) found.push(level, -level);
    }
    return found;
  }
  var first = Math.round(num(grid.low) / scale), last = Math.round(num(grid.high) / scale);
  if (last - first > 70000) return found;
  for (k = first; k <= last; k += 1) found.push(k * scale);
  return found;
}
function drawGrid(root, grid, axis, y) {
  var places = levelsOf(grid).map(axis.x).sort(function (a, b) { return a - b; });
  var start = null, before = null;
  function end() { if (start !== null && before - start > 1) root.appendChild(svg("rect", { x: start, y: y, width: before - start, height: 6, "class": "band" })); start = null; }
  places.forEach(function (x, k) {
    var near = (k && x - places[k - 1] < 2.5) || (k + 1 < places.length && places[k + 1] - x < 2.5);
    if (!near) { end(); root.appendChild(line(x, y, x, y + 6, "tick")); }
    else if (start === null) start = x;
    else if (x - before > 2.5) { end(); start = x; }
    before = x;
  });
  end();
}
function drawShades(root, grid, axis, left, right, top, bottom) {
  var low = axis.x(num(grid.low)), high = axis.x(num(grid.high));
  function shade(from, to, kind) {
    from = Math.max(from, left); to = Math.min(to, right);
    if (to > from) root.appendChild(svg("rect", { x: from, y: top, width: to - from, height: bottom - top, "class": kind }));
  }
  if (num(grid.high) > 0) { shade(high, right, "clip"); root.appendChild(line(high, top, high, bottom, "end")); }
  if (num(grid.low) < 0) { shade(left, low, "clip"); root.appendChild(line(low, top, low, bottom, "end")); }
  if (!grid.float) shade(axis.x(num(grid.low) < 0 ? -num(grid.scale) / 2 : 0), axis.x(num(grid.high) > 0 ? num(grid.scale) / 2 : 0), "zero");
}
function drawDistribution(container, width, row, isLog) {
  var detail = row.detail, buckets = detail.buckets, grid = detail.grid && !detail.grid.channels ? detail.grid : null;
  var methods = (detail.methods || []).slice(), left = Math.min(122, width * 0.29), right = width - 62;
  var plotTop = 20, plotBottom = 190, gridTop = plotBottom + 3, rows = gridTop + 30;
  var height = rows + 18 * methods.length + 4;
  var root = picture(width, height, "Distribution of " + row.name + " with the range of each strategy");
  var axis = valueAxis(buckets, grid, left, right, isLog), drawn = bars(buckets, axis);
  var all = drawn.map(function (bar) { return bar.height; });
  var zeros = buckets.zero + drawn.small;
  if (axis.log && zeros) all.push(zeros);
  var top = Math.max.apply(null, all.concat([1])), least = Math.min.apply(null, all.concat([top]));
  var y = logarithmic(axis.log ? 0.6 : least / 2, top * 1.3, plotBottom, plotTop);
  if (grid) drawShades(root, grid, axis, left, right, plotTop, plotBottom);
  xAxis(root, axis.x, axis.ticks, plotBottom + 9, real, plotTop);
  drawn.forEach(function (bar) {
    var rect = svg("rect", { x: bar.from, y: y(bar.height), width: Math.max(bar.to - bar.from + 0.15, 0.6), height: Math.max(plotBottom - y(bar.height), 0), "class": "fill" });
    root.appendChild(withTip(rect, amount(bar.count) + " values\n" + real(Math.min(bar.low, bar.high)) + " to " + real(Math.max(bar.low, bar.high))));
  });
  if (axis.log && zeros) {
    var bar = svg("rect", { x: axis.center - 6, y: y(zeros), width: 12, height: plotBottom - y(zeros), "class": "fill" });
    root.appendChild(withTip(bar, amount(buckets.zero) + " zeros" + (drawn.small ? "\n" + amount(drawn.small) + " nearer to zero than the axis shows" : "")));
  }
  if (axis.log) {
    yAxis(root, y, logTicks(1, Math.max(top, 10), 4), left, amount, right);
    root.appendChild(label("values", left - 6, 10, "end"));
  }
  if (grid) {
    drawGrid(root, grid, axis, gridTop);
    root.appendChild(label(cut(grid.format, 14), left - 6, gridTop + 8, "end"));
  }
  methods.forEach(function (method, k) {
    var at = rows + 18 * k, chosen = method.name === row.method, low = axis.x(num(method.low)), high = axis.x(num(method.high));
    root.appendChild(label(cut(method.name, Math.floor(left / 6.8)), left - 6, at + 9, "end", chosen ? "strong" : null));
    var rect = svg("rect", { x: low, y: at + (chosen ? 1 : 3), width: Math.max(high - low, 2), height: chosen ? 9 : 5, rx: 2, "class": "c" + k % 7 });
    root.appendChild(withTip(rect, method.name + ": " + real(method.low) + " to " + real(method.high) + "\nSQNR " + decibels(method.sqnr) + ", clipped " + share(method.clipped)));
    root.appendChild(label(decibels(method.sqnr), width - 2, at + 9, "end", chosen ? "strong" : null));
  });
  container.appendChild(root);
}
// Error against threshold, with each strategy on it.
function drawCurve(container, width, row) {
  var detail = row.detail, curve = detail.curve, top = detail.buckets.top;
  var left = 44, right = width - 12, upper = 20, lower = 160;
  var root = picture(width, 196, "SQNR of " + row.name + " by threshold");
  var points = curve.sqnr.map(function (value, k) {
    return { x: top * Math.pow(2, -k / curve.steps), y: num(value), clipped: curve.clipped[k] };
  }).filter(function (point) { return isFinite(point.y); });
  var marks = (detail.methods || []).map(function (method, k) {
    return { name: method.name, k: k, x: Math.max(-num(method.low), num(method.high)), y: num(method.sqnr) };
  }).filter(function (mark) { return isFinite(mark.y) && mark.x > 0; });
  var chosen = detail.grid && isFinite(num(row.sqnr)) && !detail.grid.channels
    ? { x: Math.max(-num(detail.grid.low), num(detail.grid.high)), y: num(row.sqnr) } : null;
  var every = points.concat(marks, chosen ? [chosen] : []);
  if (!every.length) return;
  var xs = every.map(function (p) { return p.x; }), ys = every.map(function (p) { return p.y; });
  var best = Math.max.apply(null, ys), floor = Math.max(Math.min.apply(null, ys), best - 25);
  points = points.filter(function (p) { return p.y >= floor - 2 || p.x >= top; });
  xs = points.concat(marks.filter(function (m) { return m.y >= floor - 2; }), chosen ? [chosen] : []).map(function (p) { return p.x; });
  var x = logarithmic(Math.min.apply(null, xs), Math.max.apply(null, xs) * 1.1, left, right);
  var y = linear(floor - 2, best + 3, lower, upper);
  xAxis(root, x, logTicks(Math.min.apply(null, xs), Math.max.apply(null, xs) * 1.1, Math.max(3, width / 70)), lower, real, upper);
  yAxis(root, y, linearTicks(floor, best, 4), left, function (v) { return minus(String(v)); }, right);
  root.appendChild(label("dB", left - 6, 10, "end"));
  root.appendChild(label("threshold", right, 193, "end"));
  var path = points.filter(function (p) { return p.y >= floor - 2; }).map(function (p, k) { return (k ? "L" : "M") + x(p.x).toFixed(1) + " " + y(p.y).toFixed(1); });
  root.appendChild(svg("path", { d: path.join(""), "class": "edge" }));
  points.forEach(function (p) {
    if (p.y < floor - 2) return;
    root.appendChild(withTip(svg("circle", { cx: x(p.x), cy: y(p.y), r: 6, fill: "transparent" }), "threshold " + real(p.x) + "\nSQNR " + decibels(p.y) + ", clipped " + share(p.clipped)));
  });
  marks.forEach(function (mark) {
    if (mark.y < floor - 2) return;
    var at = mark.y;
    root.appendChild(withTip(svg("circle", { cx: x(mark.x), cy: y(at), r: 4, "class": "c" + mark.k % 7 }), mark.name + "\nthreshold " + real(mark.x) + ", SQNR " + decibels(mark.y)));
  });
  if (chosen) {
    var at = y(Math.max(chosen.y, floor - 2)), near = x(chosen.x);
    root.appendChild(svg("circle", { cx: near, cy: at, r: 7, "class": "halo" }));
    root.appendChild(label("chosen", near, at < upper + 24 ? at + 22 : at - 12, near > right - 30 ? "end" : "middle", "strong"));
  }
  container.appendChild(root);
}
// The largest magnitude of each channel, as colors on a logarithmic scale.
function heatMap(values, count, lows) {
  var sizes = values.map(function (value, k) {
    return Math.max(Math.abs(num(value)), lows ? Math.abs(num(lows[k])) : 0);
  });
  var known = sizes.filter(function (size) { return size > 0; });
  var top = Math.max.apply(null, known.concat([1e-30])), low = Math.min.apply(null, known.concat([top]));
  var span = Math.max(Math.log(top / low), 0.7), group = Math.ceil(count / values.length);
  var cells = sizes.map(function (size, k) {
    var first = k * group, name = group > 1 ? "channels " + first + " to " + Math.min(first + group, count) : "channel " + first;
    var text = name + ": " + (lows ? real(lows[k]) + " to " + real(values[k]) : real(size));
    if (!(size > 0)) return withTip(el("i", { "class": "gap" }), name + ": nothing but zeros, or nothing");
    return withTip(el("i", { style: "--v:" + (8 + 92 * (1 - Math.log(top / size) / span)).toFixed(0) }), text);
  });
  var text = "Largest magnitude of " + count + " channels: " + real(low) + " to " + real(top);
  return el("div", {}, [
    el("p", { "class": "note" }, [text + (group > 1 ? ", " + group + " to a cell" : "") + ". A stronger color is larger, on a logarithmic scale."]),
    el("div", { "class": "heat", role: "img", "aria-label": text }, cells)
  ]);
}
