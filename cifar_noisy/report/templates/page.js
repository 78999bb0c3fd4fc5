(() => {
  "use strict";
  const byId = (id) => document.getElementById(id);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // Tables: a click on a head sorts by its column, another one the other way round.
  const sortTable = (head) => {
    const body = head.closest("table").tBodies[0];
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const key = (row) => {
      const cell = row.cells[head.cellIndex];
      return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
    };
    // What has no number has no place among numbers: it stays at the end either way.
    const isNumeric = head.classList.contains("number");
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!isNumeric) return way * String(x).localeCompare(String(y), "en", { numeric: true });
      const lacking = (typeof x === "string") - (typeof y === "string");
      return lacking || (typeof x === "string" ? 0 : way * (x - y));
    };
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    body.append(...[...body.rows].sort(compare));
  };
  for (const head of document.querySelectorAll(".sortable th")) {
    head.firstElementChild.addEventListener("click", () => sortTable(head));
  }

  // The explorer.
  const data = JSON.parse(byId("explorer-data").textContent);
  const { classes, methods, columns, examples } = data;
  const hasImages = byId("no-images") === null;
  const sheetRows = Math.max(Math.ceil(examples.length / columns), 1);
  const detail = byId("detail");
  const board = byId("tiles");
  const wide = window.matchMedia("(min-width: 60.01rem)");

  const thumbnail = (place, properties = {}) => {
    const box = element("span", { className: "thumb", ...properties });
    box.style.backgroundSize = `${columns * 100}% ${sheetRows * 100}%`;
    const x = (place % columns) / (columns - 1);
    const y = sheetRows > 1 ? Math.floor(place / columns) / (sheetRows - 1) : 0;
    box.style.backgroundPosition = `${x * 100}% ${y * 100}%`;
    return box;
  };
  const described = (e) =>
    `given ${classes[e.given]}, predicted ${classes[e.predicted]}, true ${classes[e.true]}`;

  const tiles = examples.map((example, place) => {
    const given = element("span", { textContent: classes[example.given] });
    if (example.given !== example.true) given.className = "struck";
    const tile = element(
      "button",
      { type: "button", className: "tile", tabIndex: -1, title: described(example) },
      ...(hasImages ? [thumbnail(place)] : []),
      given,
      element("span", { textContent: classes[example.true] }),
    );
    tile.dataset.row = example.row;
    tile.setAttribute("aria-label", `Example ${example.row}: ${described(example)}`);
    tile.addEventListener("click", () => open(place));
    return tile;
  });

  const bars = (example) => {
    const table = element("table", { className: "bars" });
    table.createCaption().textContent = "Predicted probabilities";
    const body = table.createTBody();
    classes.forEach((name, k) => {
      const row = body.insertRow();
      const roles = ["given", "true", "predicted"].filter((role) => example[role] === k);
      row.className = roles.join(" ");
      const bar = element("i");
      bar.style.width = `${Math.min(example.p[k], 1) * 100}%`;
      row.append(
        element("th", { scope: "row" }, name, element("small", { textContent: roles.length ? ` ${roles.join(", ")}` : "" })),
        element("td", { className: "bar" }, bar),
        element("td", { textContent: example.p[k].toFixed(3) }),
      );
    });
    return table;
  };

  const facts = (example) => {
    const list = element("dl");
    const flagging = methods.filter((_, m) => example.flags & (1 << m));
    const entries = [
      ["given", classes[example.given]],
      ["true", classes[example.true]],
      ["predicted", classes[example.predicted]],
      ["flagged by", flagging.join(", ")],
      ["margin", (1 - 2 * example.margin).toFixed(3)],
      ["self-confidence", (1 - example.self_confidence).toFixed(3)],
      ...Object.entries(example.indices).map(([order, index]) => [`index, ${order} order`, index]),
    ];
    for (const [name, value] of entries) {
      list.append(element("dt", { textContent: name }), element("dd", { textContent: value }));
    }
    return list;
  };

  let current = null;
  const close = () => {
    detail.classList.remove("open");
    if (current !== null) tiles[current].focus();
  };
  const open = (place) => {
    if (current !== null) tiles[current].removeAttribute("aria-current");
    current = place;
    const example = examples[place];
    tiles[place].setAttribute("aria-current", "true");
    makeReachable(tiles[place]);
    const picture = hasImages ? [thumbnail(place)] : [];
    if (hasImages) {
      picture[0].setAttribute("role", "img");
      picture[0].setAttribute("aria-label", `Image of example ${example.row}, truly ${classes[example.true]}`);
    }
    const shut = element("button", { type: "button", className: "close", textContent: "Close" });
    shut.addEventListener("click", close);
    const head = element("div", { className: "head" }, ...picture,
      element("h3", { textContent: `Example ${example.row}` }), shut);
    detail.replaceChildren(head, facts(example), bars(example));
    detail.dataset.row = example.row;
    detail.scrollTop = 0;
    detail.classList.add("open");
    if (!wide.matches) tiles[place].scrollIntoView({ block: "nearest" });
  };

  // One tile at a time is in the order of Tab; arrow keys move between those shown.
  const shown = () => [...board.children].filter((tile) => !tile.hidden);
  const makeReachable = (tile) => {
    for (const other of tiles) other.tabIndex = other === tile ? 0 : -1;
  };
  const perLine = (visible) => {
    const next = visible.findIndex((tile) => tile.offsetTop > visible[0].offsetTop);
    return next === -1 ? visible.length : next;
  };
  board.addEventListener("keydown", (event) => {
    const visible = shown();
    const at = visible.indexOf(event.target);
    const line = perLine(visible);
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: line, ArrowUp: -line };
    const to = { Home: 0, End: visible.length - 1 }[event.key] ?? at + steps[event.key];
    if (at === -1 || !(to in visible)) return;
    event.preventDefault();
    makeReachable(visible[to]);
    visible[to].focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && detail.classList.contains("open") && !wide.matches) close();
  });

  const isShown = (example) =>
    ["given", "true", "predicted"].every((name) => {
      const wanted = byId(`filter-${name}`).value;
      return wanted === "" || Number(wanted) === example[name];
    }) &&
    methods.every((_, m) => {
      const wanted = byId(`filter-method-${m}`).value;
      return wanted === "" || Number(wanted) === ((example.flags >> m) & 1);
    });
  const show = () => {
    const score = byId("sort").value;
    const order = examples
      .map((_, place) => place)
      .sort((a, b) => examples[b][score] - examples[a][score] || examples[a].row - examples[b].row);
    for (const place of order) tiles[place].hidden = !isShown(examples[place]);
    board.replaceChildren(...order.map((place) => tiles[place]));
    const visible = shown();
    byId("count").textContent = `${visible.length} of ${examples.length} shown`;
    if (visible.length && !visible.some((tile) => tile.tabIndex === 0)) makeReachable(visible[0]);
  };
  byId("filters").addEventListener("change", show);
  byId("filters").addEventListener("reset", (event) => {
    // Left alone, the browser would reset the form only after this.
    event.preventDefault();
    for (const select of event.target.querySelectorAll("select")) select.selectedIndex = 0;
    show();
  });
  show();
})();
