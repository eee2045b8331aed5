"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("task-table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const FIRST_METHOD = 6; // column of the best method
  const byId = (id) => document.getElementById(id);

  // --- sorting and filtering -------------------------------------------------------------------------------------
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return Number.isNaN(number) || column === 0 ? text : number;
  };

  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = column < FIRST_METHOD - 1 ? "ascending" : "descending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((a, b) => {
        const [x, y] = [value(a, column), value(b, column)];
        return x < y ? -sign : x > y ? sign : value(a, 0) < value(b, 0) ? -1 : 1;
      });
      body.append(...rows);
    });
  });

  const solvedBy = (row, method) => value(row, FIRST_METHOD + method) === 1;
  const voters = data.methods.map((_, index) => index).filter((index) => !data.methods[index].vote);

  const solvedAsAsked = (row, wanted) => {
    const count = voters.filter((method) => solvedBy(row, method)).length;
    if (wanted === "none") return count === 0;
    if (wanted === "all") return count === voters.length;
    if (wanted === "some") return count > 0 && count < voters.length;
    const [word, number] = [wanted.split(" ")[0], Number(wanted.split(" ")[1])];
    if (word === "only") return count === 1 && solvedBy(row, number);
    return solvedBy(row, number) === (word === "by");
  };

  const visible = () => rows.filter((row) => !row.hidden);

  const filter = () => {
    const text = byId("search").value.trim().toLowerCase();
    const [solved, size, concept] = ["solved", "size", "concept"].map((id) => byId(id)?.value ?? "");
    for (const row of rows) {
      row.hidden =
        !row.dataset.id.toLowerCase().includes(text) ||
        (solved !== "" && !solvedAsAsked(row, solved)) ||
        (size !== "" && row.cells[1].textContent !== size) ||
        (concept !== "" && row.dataset.concept !== concept);
    }
    const count = visible().length;
    byId("count").textContent = `${count} task${count === 1 ? "" : "s"}`;
  };
  byId("filters").addEventListener("input", filter);
  byId("filters").addEventListener("submit", (event) => event.preventDefault());

  // --- drawing ---------------------------------------------------------------------------------------------------
  const make = (name, properties = {}, ...children) => {
    const element = document.createElement(name);
    Object.assign(element, properties);
    element.append(...children);
    return element;
  };

  const shape = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, one] of Object.entries(attributes)) element.setAttribute(key, one);
    return element;
  };

  const sizeOf = (grid) => `${grid.length}×${grid[0].length}`;

  // Which cells of a grid differ from the truth; none where the sizes differ, as then nothing lines up.
  const wrongCells = (grid, truth) =>
    truth === null || grid.length !== truth.length || grid[0].length !== truth[0].length
      ? []
      : grid.flatMap((line, row) =>
          [...line].map((_, column) => [row, column]).filter(([, column]) => line[column] !== truth[row][column]));

  const drawDigits = (grid, wrong) => {
    const off = new Set(wrong.map(([row, column]) => row * 30 + column));
    const element = make("pre");
    grid.forEach((line, row) => {
      [...line].forEach((cell, column) => {
        const digit = ` ${cell}`;
        element.append(off.has(row * 30 + column) ? make("span", { className: "off", textContent: digit }) : digit);
      });
      element.append("\n");
    });
    return element;
  };

  const drawGrid = (grid, name, wrong) => {
    const [height, width] = [grid.length, grid[0].length];
    const marked = wrong.length ? `, ${wrong.length} cell${wrong.length === 1 ? "" : "s"} wrong` : "";
    if (byId("digits").checked) return drawDigits(grid, wrong);
    const cell = Math.max(6, Math.min(22, Math.floor(230 / Math.max(height, width))));
    const picture = shape("svg", {
      class: "grid", viewBox: `0 0 ${width} ${height}`, width: width * cell, height: height * cell, role: "img",
      "aria-label": `${name}, ${height} rows, ${width} columns${marked}`,
    });
    const paths = {};
    grid.forEach((line, row) => [...line].forEach((color, column) => {
      paths[color] = (paths[color] ?? "") + `M${column} ${row}h1v1h-1z`;
    }));
    for (const [color, path] of Object.entries(paths)) picture.append(shape("path", { d: path, fill: data.palette[color] }));
    let lines = "";
    for (let row = 0; row <= height; row++) lines += `M0 ${row}h${width}`;
    for (let column = 0; column <= width; column++) lines += `M${column} 0v${height}`;
    picture.append(shape("path", { d: lines, stroke: "#555", "stroke-width": 0.06, fill: "none" }));
    let crosses = "";
    for (const [row, column] of wrong) crosses += `M${column + 0.28} ${row + 0.28}l.44 .44m0 -.44l-.44 .44`;
    if (crosses) {
      picture.append(shape("path", { d: crosses, stroke: "#000", "stroke-width": 0.22, fill: "none" }));
      picture.append(shape("path", { d: crosses, stroke: "#fff", "stroke-width": 0.1, fill: "none" }));
    }
    return picture;
  };

  const read = (text) => (text === null ? null : text.split("\n"));
  const labelled = (label, content) => make("div", {}, make("p", { className: "label", textContent: label }), content);

  const drawPair = (label, [input, output]) => {
    const pair = make("div", { className: "pair" }, drawGrid(read(input), `${label}, input`, []));
    if (output !== null) pair.append(make("span", { textContent: "→" }), drawGrid(read(output), `${label}, output`, []));
    return labelled(label, pair);
  };

  const drawAttempt = (number, [text, votes, confidence, explanation], truth) => {
    const grid = read(text);
    const wrong = wrongCells(grid, truth);
    const right = truth !== null && text === truth.join("\n");
    const sameSize = truth !== null && sizeOf(grid) === sizeOf(truth);
    const verdict = right ? "right" : sameSize ? `${wrong.length} wrong` : `${sizeOf(grid)}, must be ${sizeOf(truth)}`;
    const said = make("p", {}, make("span", { className: right ? "verdict-right" : "verdict-wrong", textContent: verdict }),
      ` · ${votes} vote${votes === 1 ? "" : "s"}, confidence ${confidence}`);
    const answer = make("div", { className: "answer" }, labelled(`attempt ${number}`, drawGrid(grid, `attempt ${number}`, wrong)), said);
    const [program, ...sentence] = explanation.split("\n");
    if (program) answer.append(make("p", {}, make("code", { textContent: program })));
    if (sentence.length) answer.append(make("p", { textContent: sentence.join(" ") }));
    return answer;
  };

  const drawMethod = (method, id, test, truth) => {
    const found = method.answers[id];
    const seconds = found?.seconds ? `, ${found.seconds < 0.01 ? "<0.01" : found.seconds.toFixed(2)} s` : "";
    const block = make("div", { className: "method" }, make("h4", { textContent: method.label + seconds }));
    const attempts = found?.tests?.[test] ?? [];
    if (attempts.length) {
      block.append(make("div", { className: "pairs" }, ...attempts.map((one, index) => drawAttempt(index + 1, one, truth))));
    } else {
      block.append(make("p", { textContent: found?.error ? `failed: ${found.error}` : "no answer" }));
    }
    return block;
  };

  // --- one task --------------------------------------------------------------------------------------------------
  const dialog = byId("detail");
  let shown = null;

  const show = (id) => {
    const task = data.tasks[id];
    shown = id;
    byId("detail-title").textContent = id;
    const parts = [make("h3", { textContent: "Demonstrations" }),
      make("div", { className: "pairs" }, ...task.train.map((pair, index) => drawPair(`demonstration ${index + 1}`, pair)))];
    task.test.forEach(([input, output], test) => {
      const name = task.test.length > 1 ? `Test ${test + 1}` : "Test";
      parts.push(make("h3", { textContent: `${name}: input and right answer` }), drawPair(name.toLowerCase(), [input, output]),
        make("h3", { textContent: `${name}: attempts` }),
        make("div", { className: "methods" }, ...data.methods.map((method) => drawMethod(method, id, test, read(output)))));
    });
    byId("detail-body").replaceChildren(...parts);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
    byId("detail-title").focus();
    history.replaceState(null, "", `#task=${encodeURIComponent(id)}`);
  };

  const step = (by) => {
    const ids = visible().map((row) => row.dataset.id);
    const place = ids.indexOf(shown) + by;
    if (place >= 0 && place < ids.length) show(ids[place]);
  };

  body.addEventListener("click", (event) => {
    if (event.target.classList.contains("open")) show(event.target.closest("tr").dataset.id);
  });
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("close").addEventListener("click", () => dialog.close());
  byId("digits").addEventListener("change", () => show(shown));
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  dialog.addEventListener("close", () => {
    history.replaceState(null, "", location.pathname + location.search);
    const row = rows.find((one) => one.dataset.id === shown);
    row?.querySelector(".open").focus();
  });

  const openNamed = () => {
    const id = decodeURIComponent(location.hash.replace(/^#task=/, ""));
    if (location.hash.startsWith("#task=") && Object.hasOwn(data.tasks, id)) show(id);
  };
  window.addEventListener("hashchange", openNamed);
  filter();
  openNamed();
})();
