(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const counted = (number) => number.toLocaleString("en");

  // Tables: a click on a head sorts by its column, best first; another one the other way round.
  const sortTable = (head) => {
    const body = head.closest("table").tBodies[0];
    const first = head.dataset.first ?? "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const isAgain = "clicked" in head.dataset && head.getAttribute("aria-sort") === first;
    const way = isAgain ? other : first;
    const sign = way === "ascending" ? 1 : -1;
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    // What has no number has no place among numbers: it stays at the end either way.
    const isNumeric = head.classList.contains("number");
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!isNumeric) return sign * String(x).localeCompare(String(y), "en", { numeric: true });
      const lacking = (typeof x === "string") - (typeof y === "string");
      return lacking || (typeof x === "string" ? 0 : sign * (x - y));
    };
    for (const cell of head.parentNode.cells) {
      cell.removeAttribute("aria-sort");
      delete cell.dataset.clicked;
    }
    head.setAttribute("aria-sort", way);
    head.dataset.clicked = "";
    body.append(...[...body.rows].sort(compare));
  };
  for (const head of document.querySelectorAll(".sortable thead th")) {
    head.firstElementChild.addEventListener("click", () => sortTable(head));
  }

  // The data. An example is known by its row; the suspects, which have thumbnails and
  // probabilities, by their place among the suspects too.
  const TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
  const unpack = ({ type, base64 }) => {
    const text = atob(base64);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
    return new TYPES[type](bytes.buffer);
  };
  const unpackAll = (packed) => Object.entries(packed).map(([name, array]) => [name, unpack(array)]);
  const data = JSON.parse(byId("explorer-data").textContent);
  const { classes, methods, columns } = data;
  const rows = unpack(data.rows);
  const labels = Object.fromEntries(
    ["given", "true", "predicted"].map((name) => [name, unpack(data[name])]),
  );
  const scores = {
    margin: unpack(data.normalized_margin),
    self_confidence: unpack(data.self_confidence),
  };
  const places = [...rows.keys()];
  const orders = { margin: places, self_confidence: [...unpack(data.by_self_confidence)] };
  const placeOf = new Map(places.map((place) => [rows[place], place]));
  const probabilities = unpack(data.p);
  const found = data.found.map(unpack);
  const indices = unpackAll(data.indices);
  const votes = unpackAll(data.votes);
  const isFlagged = (row, method) => (found[method][row >> 3] >> (row & 7)) & 1;
  const flagging = (row) => methods.filter((_, method) => isFlagged(row, method));
  const className = (label) => classes[label] ?? "–";

  const hasImages = byId("no-images") === null;
  const detail = byId("detail");
  const board = byId("tiles");
  const wide = window.matchMedia("(min-width: 60.01rem)");

  // A sheet of thumbnails is read when the first of its pictures is shown.
  const sheetsRead = new Set();
  const thumbnail = (place, properties = {}) => {
    const sheet = Math.floor(place / data.page_size);
    if (!sheetsRead.has(sheet)) {
      sheetsRead.add(sheet);
      const rule = `.sheet-${sheet} { background-image: url(${byId(`sheet-${sheet}`).textContent}); }`;
      document.head.append(element("style", { textContent: rule }));
    }
    const within = place % data.page_size;
    const inSheet = Math.min(data.page_size, rows.length - sheet * data.page_size);
    const lines = Math.ceil(inSheet / columns);
    const box = element("span", { className: `thumb sheet-${sheet}`, ...properties });
    box.style.aspectRatio = data.aspect;
    box.style.backgroundSize = `${columns * 100}% ${lines * 100}%`;
    const y = lines > 1 ? Math.floor(within / columns) / (lines - 1) : 0;
    box.style.backgroundPosition = `${((within % columns) / (columns - 1)) * 100}% ${y * 100}%`;
    return box;
  };

  const label = (name, isTrue) =>
    element("span", { textContent: className(name), className: isTrue ? "" : "struck" });
  const tileOf = (place) => {
    const row = rows[place];
    const [given, truth, predicted] = ["given", "true", "predicted"].map((name) => labels[name][row]);
    const said = `Example ${row}: given ${className(given)}, predicted ${className(predicted)}, true ${className(truth)}`;
    const tile = element(
      "button",
      { type: "button", className: "tile", tabIndex: -1, title: said },
      ...(hasImages ? [thumbnail(place)] : []),
      label(given, given === truth),
      label(truth, true),
    );
    tile.dataset.row = row;
    tile.addEventListener("click", () => open(row));
    return tile;
  };

  // Filters, order and pages.
  let shown = []; // places that pass the filters, in order
  let page = 0;
  const tiles = () => [...board.children];
  const nPages = () => Math.max(Math.ceil(shown.length / data.page_size), 1);
  const filters = [
    ...["given", "true", "predicted"].map((name) => ({
      control: byId(`filter-${name}`),
      name: `${name} label`,
      fits: (row, wanted) => labels[name][row] === wanted,
    })),
    ...methods.map((name, method) => ({
      control: byId(`filter-method-${method}`),
      name,
      fits: (row, wanted) => isFlagged(row, method) === wanted,
    })),
  ];
  const active = () => filters.filter(({ control }) => control.value !== "");
  const passing = (kept) =>
    orders[byId("sort").value].filter((place) =>
      kept.every(({ control, fits }) => fits(rows[place], Number(control.value))),
    );
  const named = ({ control, name }) => `“${name}: ${control.selectedOptions[0].textContent}”`;

  // Of none, say which filter did it: those without which something would be shown.
  const cause = () => {
    const used = active();
    if (!used.length) return rows.length ? "" : ". No example is among the suspects.";
    const without = used
      .map((filter) => [filter, passing(used.filter((other) => other !== filter)).length])
      .filter(([, left]) => left > 0)
      .map(([filter, left]) => `without ${named(filter)} ${counted(left)}`);
    if (!without.length) return ": no single filter did it; “Show all” clears them.";
    const all = without.join(", ");
    return `. ${all[0].toUpperCase()}${all.slice(1)} would be.`;
  };

  const showPage = (number) => {
    page = Math.min(Math.max(number, 0), nPages() - 1);
    const start = page * data.page_size;
    const end = Math.min(start + data.page_size, shown.length);
    board.replaceChildren(...shown.slice(start, end).map(tileOf));
    board.scrollTop = 0;
    byId("count").textContent =
      `${counted(shown.length)} of ${counted(rows.length)} shown${shown.length ? "" : cause()}`;
    byId("pager").hidden = nPages() === 1;
    byId("page-number").textContent =
      `${counted(start + 1)}–${counted(end)}, page ${page + 1} of ${nPages()}`;
    byId("previous").setAttribute("aria-disabled", page === 0);
    byId("next").setAttribute("aria-disabled", page === nPages() - 1);
    markCurrent();
    if (!tiles().some((tile) => tile.tabIndex === 0) && tiles().length) tiles()[0].tabIndex = 0;
  };
  const show = () => {
    shown = passing(active());
    showPage(0);
  };
  byId("filters").addEventListener("change", show);
  byId("filters").addEventListener("reset", (event) => {
    // Left alone, the browser would reset the form only after this.
    event.preventDefault();
    for (const select of event.target.querySelectorAll("select")) select.selectedIndex = 0;
    show();
  });
  byId("previous").addEventListener("click", () => showPage(page - 1));
  byId("next").addEventListener("click", () => showPage(page + 1));

  // One tile at a time is in the order of Tab; keys move between those shown, and turn pages.
  const makeReachable = (tile) => {
    for (const other of tiles()) other.tabIndex = other === tile ? 0 : -1;
  };
  const perLine = (visible) => {
    const next = visible.findIndex((tile) => tile.offsetTop > visible[0].offsetTop);
    return next === -1 ? visible.length : next;
  };
  const focusTile = (at) => {
    const tile = tiles().at(at);
    makeReachable(tile);
    tile.focus();
  };
  board.addEventListener("keydown", (event) => {
    const visible = tiles();
    const at = visible.indexOf(event.target);
    if (at === -1 || event.altKey || event.ctrlKey || event.metaKey) return;
    const turn = { PageDown: 1, PageUp: -1 }[event.key];
    const line = perLine(visible);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: line, ArrowUp: -line };
    const to = { Home: 0, End: visible.length - 1 }[event.key] ?? at + steps[event.key];
    if (turn === undefined && Number.isNaN(to)) return;
    event.preventDefault();
    if (turn !== undefined) {
      if (page + turn < 0 || page + turn >= nPages()) return;
      showPage(page + turn);
      focusTile(0);
    } else if (to in visible) {
      focusTile(to);
    }
  });

  // The chosen example.
  let current = null; // its row
  const markCurrent = () => {
    for (const tile of tiles()) {
      if (Number(tile.dataset.row) === current) {
        tile.setAttribute("aria-current", "true");
        makeReachable(tile);
      } else {
        tile.removeAttribute("aria-current");
      }
    }
  };
  const currentTile = () => board.querySelector('[aria-current="true"]');

  const bars = (row, place) => {
    const table = element("table", { className: "bars" });
    table.createCaption().textContent = "Predicted probabilities";
    const body = table.createTBody();
    classes.forEach((name, k) => {
      const p = probabilities[place * classes.length + k];
      const line = body.insertRow();
      const roles = ["given", "true", "predicted"].filter((role) => labels[role][row] === k);
      line.className = roles.join(" ");
      const bar = element("i");
      bar.style.width = `${Math.min(p, 1) * 100}%`;
      line.append(
        element("th", { scope: "row" }, name, element("small", { textContent: roles.join(", ") })),
        element("td", { className: "bar" }, bar),
        element("td", { textContent: p.toFixed(3) }),
      );
    });
    return table;
  };

  const facts = (row) => {
    const list = element("dl");
    const by = flagging(row);
    const voted = votes.map(([name, given]) => [name, label(given[row], given[row] === labels.true[row])]);
    const entries = [
      ["given", label(labels.given[row], labels.given[row] === labels.true[row])],
      ["true", className(labels.true[row])],
      ["predicted", className(labels.predicted[row])],
      ...voted,
      ["flagged by", by.length && by.length === methods.length ? `all ${by.length}: ${by.join(", ")}` : by.join(", ") || "no method"],
      ["margin", (1 - 2 * scores.margin[row]).toFixed(3).replace("-", "−")],
      ["self-confidence", (1 - scores.self_confidence[row]).toFixed(3)],
      ...indices.map(([order, index]) => [`index, ${order} order`, index[row]]),
    ];
    for (const [name, value] of entries) {
      list.append(element("dt", { textContent: name }), element("dd", {}, value));
    }
    return list;
  };

  // Why an example has no tile, where it has none.
  const note = (row, place) => {
    if (place !== undefined) return shown.includes(place) ? [] : ["The filters hide its tile."];
    const lacks = `So this page has no ${hasImages ? "picture and no " : ""}probabilities of it`;
    if (!flagging(row).length) return [`Not among the suspects: no method flags it. ${lacks}.`];
    return [
      `Not among the ${counted(rows.length)} suspects of this page, of ${counted(data.n_flagged)} ` +
      `examples that a method flags. ${lacks}; `,
      element("code", { textContent: `cifar-noisy report --examples ${data.n_flagged}` }),
      " makes one that has.",
    ];
  };

  const close = () => {
    detail.classList.remove("open");
    (currentTile() ?? byId("find-index")).focus();
  };
  const open = (row) => {
    current = row;
    const place = placeOf.get(row);
    const at = shown.indexOf(place);
    if (at !== -1 && Math.floor(at / data.page_size) !== page) showPage(Math.floor(at / data.page_size));
    markCurrent();
    const picture = [];
    if (hasImages && place !== undefined) {
      picture.push(thumbnail(place));
      picture[0].setAttribute("role", "img");
      picture[0].setAttribute("aria-label", `Image of example ${row}, truly ${className(labels.true[row])}`);
    }
    const shut = element("button", { type: "button", className: "close", textContent: "Close" });
    shut.addEventListener("click", close);
    const address = `#example=${row}`;
    const title = element("div", {},
      element("h3", { textContent: `Example ${row}`, tabIndex: -1 }),
      element("a", { href: address, textContent: "Link to this example" }));
    const why = note(row, place);
    detail.replaceChildren(
      element("div", { className: "head" }, ...picture, title, shut),
      ...(why.length ? [element("p", { className: "note" }, ...why)] : []),
      facts(row),
      ...(place === undefined ? [] : [bars(row, place)]),
    );
    detail.dataset.row = row;
    detail.scrollTop = 0;
    detail.classList.add("open");
    if (location.hash !== address) history.replaceState(null, "", address);
    if (currentTile()) currentTile().scrollIntoView({ block: "nearest", behavior: "instant" });
  };
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && detail.classList.contains("open") && !wide.matches) close();
  });

  // An example is found by its index in any order, or by an address that ends in #example=1487.
  const goTo = (row) => {
    open(row);
    byId("explorer").scrollIntoView({ behavior: "instant" });
    detail.querySelector("h3").focus({ preventScroll: true });
  };
  const find = (text, index) => {
    const number = /^\d+$/.test(text) ? Number(text) : -1;
    const row = index === undefined ? number : index.indexOf(number);
    const isThere = row >= 0 && row < data.n_examples;
    byId("find-status").textContent = isThere
      ? "" : `No example ${text || "is named"}: 0 to ${counted(data.n_examples - 1)}`;
    if (isThere) goTo(row);
  };
  byId("find").addEventListener("submit", (event) => {
    event.preventDefault();
    const order = byId("find-order")?.selectedIndex ?? 0;
    find(byId("find-index").value.replaceAll(/[\s,#]/g, ""), indices[order]?.[1]);
  });
  const followAddress = () => {
    const named = /^#example=(.*)$/.exec(location.hash);
    if (named) find(named[1]);
  };
  window.addEventListener("hashchange", followAddress);

  // The indices of what the filters let through, on all pages, in the order shown.
  const table = () => {
    const orders = indices.length ? indices : [["index", null]];
    const quoted = (name) => (/[",\n]/.test(name) ? `"${name.replaceAll('"', '""')}"` : name);
    const lines = shown.map((place) => orders.map(([, index]) => index?.[rows[place]] ?? rows[place]).join(","));
    return [orders.map(([name]) => quoted(name)).join(","), ...lines, ""].join("\n");
  };
  const copied = (text) => {
    // Where a page may not use the clipboard, a selection is copied as of old.
    const area = element("textarea", { value: text, className: "unseen" });
    area.setAttribute("aria-hidden", "true");
    document.body.append(area);
    area.select();
    const isDone = document.execCommand("copy");
    area.remove();
    return isDone;
  };
  byId("copy").addEventListener("click", async () => {
    const isDone = await navigator.clipboard?.writeText(table()).then(() => true, () => false);
    byId("export-status").textContent = isDone || copied(table())
      ? `${counted(shown.length)} copied` : "This browser does not allow it: download them";
    byId("copy").focus();
  });
  byId("download").addEventListener("click", () => {
    const address = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
    element("a", { href: address, download: "examples.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  });

  new IntersectionObserver(([{ isIntersecting }]) => {
    document.querySelector(".to-top").classList.toggle("unneeded", isIntersecting);
  }).observe(byId("top"));

  show();
  followAddress();
})();
