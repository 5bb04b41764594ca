// A name whose end stays when its middle is cut, as the ends of names differ most.
function nameOf(text) {
  text = String(text);
  var end = Math.max(text.length - 14, Math.ceil(text.length / 2));
  return el("span", { "class": "name" }, [el("span", {}, [text.slice(0, end)]), el("span", {}, [text.slice(end)])]);
}
// A table that sorts by its headings, filters, and lets a row be chosen by mouse or keys.
var MARKS = { good: "●", check: "▲", poor: "■", "no data": "○" };
function sparkOf(text) {
  if (!text) return "";
  var width = 92, step = width / text.length, path = "";
  for (var k = 0; k < text.length; k += 1) {
    var high = Number(text[k]) * 18 / 9;
    if (high) path += "M" + (k * step).toFixed(1) + " 18v" + (-high).toFixed(1) + "h" + Math.max(step - 0.6, 0.8).toFixed(1) + "V18z";
  }
  return svg("svg", { "class": "spark", viewBox: "0 0 92 18", "aria-hidden": "true" }, [svg("path", { d: path })]);
}
function badge(word) {
  if (!word) return "";
  return el("span", { "class": "badge " + (word === "no data" ? "none" : word) }, [MARKS[word] + " " + word]);
}
function makeTable(place, options) {
  var rows = options.rows, state = { key: null, down: false, chosen: null };
  var columns = options.columns.filter(function (column) {
    return rows.some(function (row) { return row[column.key] !== undefined && row[column.key] !== null && row[column.key] !== ""; });
  });
  var filter = el("input", { type: "search", placeholder: "Filter by name, node, reason …", "aria-label": "Filter " + options.name });
  var selects = (options.selects || []).map(function (one) {
    var values = [];
    rows.forEach(function (row) { [].concat(row[one.key] || []).forEach(function (v) { if (values.indexOf(v) < 0) values.push(v); }); });
    values.sort();
    if (values.length < 2) return null;
    var select = el("select", { "aria-label": one.label }, [el("option", { value: "" }, [one.label + ": all"])].concat(values.map(function (v) { return el("option", { value: v }, [v]); })));
    select.addEventListener("change", show);
    return { key: one.key, select: select };
  }).filter(Boolean);
  var count = el("span", { "class": "count", role: "status" }), body = el("tbody"), empty = el("p", { "class": "empty", hidden: true }, ["No row matches the filter."]);
  var reset = el("button", { type: "button" }, [options.order]), save = el("button", { type: "button" }, ["CSV"]);
  var head = el("tr", {}, columns.map(function (column) {
    var button = el("button", { type: "button", title: column.title || null }, [column.label]);
    button.addEventListener("click", function () { sortBy(column); });
    return el("th", { scope: "col", "class": (column.text ? "" : "num") + (column.extra ? " extra" : ""), "data-key": column.key }, [button]);
  }));
  var frame = el("div", { "class": "frame" + (options.choose ? "" : " idle"), tabindex: options.choose ? null : 0, role: options.choose ? null : "region", "aria-label": options.name }, [el("table", {}, [el("caption", { "class": "visually-hidden" }, [options.caption]), el("thead", {}, [head]), body]), empty]);
  clear(place).appendChild(el("div", { "class": "bar" }, [filter].concat(selects.map(function (s) { return s.select; }), [reset, save, count])));
  place.appendChild(frame);

  var lines = rows.map(function (row, k) {
    var cells = columns.map(function (column, c) {
      var value = row[column.key], shown = column.show ? column.show(value, row) : (value === undefined ? NONE : c ? value : nameOf(value));
      var plain = c && typeof shown === "object" ? null : c ? String(shown) : row.name;
      return el(c ? "td" : "th", { scope: c ? null : "row", "aria-label": c ? null : row.name, "class": (column.text ? "text" : "num") + (column.extra ? " extra" : ""), title: column.text && plain && plain.length > 16 ? plain : null }, [shown]);
    });
    var line = el("tr", { tabindex: options.choose ? -1 : null }, cells);
    if (options.choose) line.addEventListener("click", function () { options.choose(row, false); });
    var words = [row.name, row.node, row.op, row.method, row.verdict].concat(row.kinds || [], row.reasons || []).join("\n").toLowerCase();
    return { row: row, line: line, words: words, order: k };
  });
  var visible = lines;

  function sortBy(column) {
    var first = !column.text; // numbers: the largest first
    if (state.key !== column.key) { state.key = column.key; state.down = first; }
    else if (state.down === first) state.down = !first;
    else state.key = null;
    show();
  }
  function ordered(found) {
    var column = columns.find(function (c) { return c.key === state.key; });
    if (!column) return found;
    var sign = state.down ? -1 : 1;
    return found.slice().sort(function (a, b) {
      var x = a.row[column.key], y = b.row[column.key];
      if (column.rank) { x = column.rank(x); y = column.rank(y); }
      else if (!column.text) { x = num(x); y = num(y); }
      var xNone = x === undefined || x !== x, yNone = y === undefined || y !== y;
      if (xNone || yNone) return xNone - yNone || a.order - b.order; // missing ones always last
      return (x < y ? -1 : x > y ? 1 : 0) * sign || a.order - b.order;
    });
  }
  function show() {
    var words = filter.value.trim().toLowerCase();
    visible = ordered(lines.filter(function (each) {
      return (!words || each.words.indexOf(words) >= 0) && selects.every(function (s) {
        return !s.select.value || [].concat(each.row[s.key] || []).indexOf(s.select.value) >= 0;
      });
    }));
    clear(body);
    visible.forEach(function (each) { body.appendChild(each.line); });
    count.textContent = visible.length === rows.length ? rows.length + " rows" : visible.length + " of " + rows.length + " rows";
    empty.hidden = visible.length > 0;
    Array.prototype.forEach.call(head.children, function (th) {
      var own = th.getAttribute("data-key") === state.key;
      if (own) th.setAttribute("aria-sort", state.down ? "descending" : "ascending"); else th.removeAttribute("aria-sort");
    });
    rove();
  }
  // One row is reached by Tab; arrows move from it.
  function rove() {
    if (!options.choose) return;
    lines.forEach(function (each) { each.line.tabIndex = -1; });
    var first = visible.find(function (each) { return each.row === state.chosen; }) || visible[0];
    if (first) first.line.tabIndex = 0;
  }
  body.addEventListener("keydown", function (event) {
    if (!options.choose) return;
    var at = visible.findIndex(function (each) { return each.line === event.target; });
    var to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: visible.length - 1, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (at < 0) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); options.choose(visible[at].row, true); return; }
    if (to === undefined) return;
    event.preventDefault();
    var next = visible[Math.min(Math.max(to, 0), visible.length - 1)];
    options.choose(next.row, false);
    next.line.focus();
  });
  filter.addEventListener("input", show);
  reset.addEventListener("click", function () { state.key = null; filter.value = ""; selects.forEach(function (s) { s.select.value = ""; }); show(); });
  save.addEventListener("click", function () { saveCsv(options.name, columns, visible.map(function (each) { return each.row; })); });
  save.title = "Save the rows that are shown as CSV";
  reset.title = "Show all rows in their first order";
  show();
  return {
    mark: function (row, reveal) {
      lines.forEach(function (each) { if (each.row === row) each.line.setAttribute("aria-current", "true"); else each.line.removeAttribute("aria-current"); });
      state.chosen = row;
      rove();
      var mine = lines.find(function (each) { return each.row === row; });
      if (reveal && mine && mine.line.parentNode) frame.scrollTop = Math.max(0, mine.line.offsetTop - frame.clientHeight / 2);
    },
    neighbor: function (row, by) {
      var at = visible.findIndex(function (each) { return each.row === row; });
      var next = visible[at + by];
      return at >= 0 && next ? next.row : null;
    }
  };
}
function saveCsv(name, columns, rows) {
  function cell(value) {
    var text = value === undefined || value === null ? "" : String(value);
    // A spreadsheet would compute what begins like a formula.
    if (/^[=+@\t\r]|^-[^\d.]/.test(text)) text = "'" + text;
    return /[",\n\r]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }
  var kept = columns.filter(function (column) { return column.key !== "spark"; });
  var text = [kept.map(function (c) { return cell(c.label); })].concat(rows.map(function (row) {
    return kept.map(function (c) { return cell(row[c.key]); });
  })).map(function (line) { return line.join(","); }).join("\n") + "\n";
  var link = el("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: name + ".csv" });
  document.body.appendChild(link);
  link.click();
  link.remove();
}
