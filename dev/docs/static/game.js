/* "Be the attacker": a game and a slider over GAME, which game-data.js holds. No library. */
(function () {
  "use strict";
  const ROUNDS = 10;
  const MODES = {
    bare: "as the classifier answers",
    purified: "behind the paper's purifier",
    kept: "behind the purifier that keeps labels",
  };
  const NEXT = { bare: "purified", purified: "kept" };
  const [flips, key] = GAME.sealed.split(".");
  const isMember = (i) => flips[i] !== key[i];
  const results = {}; // mode -> the last game played in it
  let game = null;

  /* Small helpers ------------------------------------------------------------------------ */

  function make(tag, attributes, ...children) {
    const svg = ["svg", "rect", "text", "line", "path", "g", "circle", "title"].includes(tag);
    const node = svg
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name === "onclick" || name === "oninput") node[name] = value;
      else if (value !== false) node.setAttribute(name, value === true ? "" : value);
    }
    node.append(...children.filter((child) => child !== null));
    return node;
  }
  const percent = (share) => (100 * share).toFixed(1) + "\u00a0%";
  const roomIn = (node) => Math.max(250, Math.min(600, node.clientWidth - 34));
  const digits = (label) => String(label).padStart(2, "0");
  const nines = (p) => Math.min(6, -Math.log10(Math.max(1 - p, 1e-6)));
  const kind = (member) => (member ? "member" : "non-member");

  /* The game's state ----------------------------------------------------------------------- */

  function begin(mode) {
    let drawn;
    do {
      const pool = GAME.records.map((_, i) => i);
      drawn = Array.from({ length: ROUNDS }, () =>
        pool.splice(Math.floor(Math.random() * pool.length), 1)[0]);
    } while (Math.abs(drawn.filter(isMember).length - ROUNDS / 2) > 2); // 3 to 7 of ten
    game = { mode, drawn, said: [] };
    showRound(false);
  }

  function answer(i, mode) {
    const record = GAME.records[i];
    const [own, ...top] = record[{ bare: 2, purified: 3, kept: 4 }[mode]];
    return { pixels: record[0], label: record[1], own, top };
  }

  // What the threshold and the label say of a record: both saw known members and non-members
  const thresholdSays = (a, mode) => a.own >= GAME.modes[mode].at;
  const labelSays = (a) => a.top[0] === a.label;

  function rightOf(g, says) {
    return g.drawn.slice(0, g.said.length).filter((i, n) => says(i, n) === isMember(i)).length;
  }
  const yours = (g) => rightOf(g, (i, n) => g.said[n]);
  const thresholds = (g) => rightOf(g, (i) => thresholdSays(answer(i, g.mode), g.mode));
  const labels = (g) => rightOf(g, (i) => labelSays(answer(i, g.mode)));

  /* Pictures --------------------------------------------------------------------------------- */

  function picture(a) {
    const svg = make("svg", {
      viewBox: "0 0 16 8", class: "game-picture", role: "img", "shape-rendering": "crispEdges",
      "aria-label": "handwritten digits, " + digits(a.label),
    });
    for (let i = 0; i < a.pixels.length; i++) {
      const grey = Math.round((255 * parseInt(a.pixels[i], 17)) / 16);
      svg.append(make("rect", {
        x: i % 16, y: Math.floor(i / 16), width: 1.02, height: 1.02,
        fill: `rgb(${grey},${grey},${grey})`,
      }));
    }
    return svg;
  }

  function bars(a, mode) {
    const list = make("ol", { class: "game-bars", "aria-label": "the largest scores" });
    let rest = 100;
    for (let i = 0; i < a.top.length; i += 2, rest--) {
      const [label, score] = [a.top[i], a.top[i + 1]];
      list.append(make("li", label === a.label ? { class: "game-true" } : {},
        make("span", { class: "game-label" }, digits(label)),
        make("span", { class: "game-track" },
          make("span", { class: "game-bar", style: `width:${100 * score}%` })),
        make("span", { class: "game-score" }, score.toFixed(GAME.modes[mode].digits === 2 ? 2 : 5))));
    }
    list.append(make("li", { class: "game-rest" }, `${rest} others: less, or nothing`));
    return list;
  }

  const TICKS = ["0", "0.9", "0.99", "0.999", "4", "5", "6"];

  function axis(svg, y, left, width) {
    svg.append(make("line", { x1: left, x2: left + width, y1: y, y2: y, class: "game-axis" }));
    TICKS.forEach((tick, i) => {
      const x = left + (width * i) / 6;
      svg.append(make("line", { x1: x, x2: x, y1: y, y2: y + 4, class: "game-axis" }));
      svg.append(make("text", { x, y: y + 17, "text-anchor": "middle" }, tick));
    });
    svg.append(make("text", { x: left + width / 2, y: y + 34, "text-anchor": "middle" },
      "score of the true class (4, 5, 6: so many nines)"));
  }

  function canvas(width, height, name) {
    return make("svg", { viewBox: `0 0 ${width} ${height}`, width, height, class: name, role: "img" });
  }

  // The rounds so far, on the line that the threshold cuts
  function strip(g, over) {
    const [left, whole] = [14, roomIn(box)];
    const width = whole - 2 * left - 6;
    const svg = canvas(whole, 112, "game-strip");
    const x = (p) => left + (width * nines(p)) / 6;
    svg.append(make("text", { x: 0, y: 12 }, "members"));
    svg.append(make("text", { x: 0, y: 46 }, "non-members"));
    const seen = g.drawn.slice(0, g.said.length);
    seen.forEach((i, n) => {
      const [place, member] = [x(answer(i, g.mode).own), isMember(i)];
      const rise = 3 * (n % 3) - 3;
      svg.append(member
        ? make("rect", { x: place - 5, y: 18 + rise, width: 10, height: 10, class: "game-member" })
        : make("circle", { cx: place, cy: 58 + rise, r: 5, class: "game-nonmember" }));
    });
    if (over) {
      const cut = x(GAME.modes[g.mode].at);
      svg.append(make("line", { x1: cut, x2: cut, y1: 16, y2: 74, class: "game-cut" }));
      svg.append(make("text", { x: cut, y: 12, "text-anchor": "middle" }, "threshold"));
    }
    axis(svg, 74, left, width);
    const told = seen.map((i) => `${kind(isMember(i))} ${answer(i, g.mode).own}`).join(", ");
    svg.setAttribute("aria-label", "score of the true class, round by round: " + (told || "none yet"));
    return svg;
  }

  function progress(g) {
    const list = make("ol", { class: "game-progress", "aria-label": "rounds" });
    for (let n = 0; n < ROUNDS; n++) {
      const played = n < g.said.length;
      const right = played && g.said[n] === isMember(g.drawn[n]);
      list.append(make("li", {
        class: played ? (right ? "game-right" : "game-wrong") : "",
        "aria-label": `round ${n + 1}: ${played ? (right ? "right" : "wrong") : "to come"}`,
      }, played ? (right ? "✓" : "✗") : "·"));
    }
    return list;
  }

  /* The rounds ---------------------------------------------------------------------------------- */

  const box = document.getElementById("game");

  function button(text, onclick, extra) {
    return make("button", { type: "button", class: "game-button", onclick, ...extra }, text);
  }

  function showRound(focus) {
    const n = game.said.length;
    const a = answer(game.drawn[n], game.mode);
    const say = (member) => { game.said.push(member); showTruth(); };
    const yes = button("Member", () => say(true), { id: "game-yes" });
    box.replaceChildren(
      make("p", { class: "game-head" }, `Round ${n + 1} of ${ROUNDS}, ${MODES[game.mode]}`),
      make("div", { class: "game-record" },
        make("div", {}, picture(a),
          make("p", { class: "game-caption" }, "the record; its true label is " + digits(a.label))),
        bars(a, game.mode)),
      make("div", { class: "game-buttons", role: "group", "aria-label": "your answer" },
        yes, button("Non-member", () => say(false), { id: "game-no" })),
      make("p", { role: "status", class: "game-said" },
        n ? "" : "Was the classifier trained on this record?"),
      progress(game), strip(game, false));
    if (focus) yes.focus();
  }

  function showTruth() {
    const n = game.said.length - 1;
    const a = answer(game.drawn[n], game.mode);
    const [member, said] = [isMember(game.drawn[n]), game.said[n]];
    const last = n + 1 === ROUNDS;
    const text = `${said === member ? "Right" : "Wrong"}: it was a ${kind(member)}, and its true `
      + `class got ${a.own.toFixed(GAME.modes[game.mode].digits === 2 ? 2 : 5)}. The threshold says `
      + `${kind(thresholdSays(a, game.mode))}, the label alone ${kind(labelSays(a))}. `
      + `You have ${yours(game)} of ${n + 1}, the threshold ${thresholds(game)}.`;
    const next = button(last ? "How did I do?" : "Next record",
      last ? showEnd : () => showRound(true), { id: "game-next" });
    box.querySelector(".game-buttons").replaceChildren(next);
    box.querySelector(".game-said").textContent = text;
    box.querySelector(".game-progress").replaceWith(progress(game));
    box.querySelector(".game-strip").replaceWith(strip(game, false));
    next.focus();
  }

  function resultRow(name, found, everybody) {
    return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, found),
      make("td", {}, everybody));
  }

  function table(g) {
    const about = GAME.modes[g.mode];
    return make("table", { class: "game-table" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "attacker"),
        make("th", { scope: "col" }, "these ten"),
        make("th", { scope: "col" }, "all held-out records"))),
      make("tbody", {},
        resultRow("you", String(yours(g)), "–"),
        resultRow("a threshold on the score of the true class", String(thresholds(g)),
          percent(about.threshold)),
        resultRow("the label alone: right means member", String(labels(g)), percent(about.label)),
        resultRow("a coin", "5 on average", percent(0.5))));
  }

  function lesson(g) {
    const [about, bare] = [GAME.modes[g.mode], GAME.modes.bare];
    if (g.mode === "bare") {
      return `The threshold is right in ${percent(about.threshold)} of all held-out records, half `
        + "of them members. The label alone gives away "
        + `${percent(about.label)}: the classifier is right about ${percent(about.right[0])} of its `
        + `members and ${percent(about.right[1])} of non-members, so whoever is answered wrongly is `
        + "hardly a member. That is the label floor. What lies between the two, the scores leak, "
        + "and a purifier can take it out. Now the same with purified answers.";
    }
    const over = percent(Math.abs(about.threshold - about.label)).replace("%", "points");
    const where = about.threshold >= about.label ? "over" : "under";
    const fell = `The threshold was right in ${percent(bare.threshold)} before, and is now in `
      + `${percent(about.threshold)}: ${over} ${where} what the label alone gives away.`;
    if (g.mode === "purified") {
      return `${fell} Most answers now say 1.00, members and non-members alike. This purifier `
        + `answers in whole percents, and it may change a label. Of members it now gets `
        + `${percent(about.right[0])} right, of non-members ${percent(about.right[1])}; without it `
        + `${percent(bare.right[0])} and ${percent(bare.right[1])}.`;
    }
    return `${fell} Every label is the classifier's own, so the label floor is where it was: no `
      + "defence that keeps labels gets an attacker below it.";
  }

  function past() {
    const played = Object.entries(results).map(([mode, g]) => `${yours(g)} ${MODES[mode]}`);
    return played.length > 1 ? `Your games: ${played.join("; ")}, each of ten.` : "";
  }

  function showEnd() {
    results[game.mode] = game;
    const head = make("p", { class: "game-head", tabindex: "-1", role: "status" },
      `You: ${yours(game)} of ${ROUNDS}. The threshold: ${thresholds(game)}. (${MODES[game.mode]})`);
    const next = NEXT[game.mode] || "bare";
    box.replaceChildren(
      head, progress(game), strip(game, true), table(game),
      make("p", {}, lesson(game)),
      make("p", {}, "Ten rounds are few: luck moves a result by one or two. " + past()),
      make("div", { class: "game-buttons" },
        button(`Ten more, ${MODES[next]}`, () => { begin(next); focusFirst(); }, { id: "game-on" }),
        button("Again, the same way", () => { begin(game.mode); focusFirst(); }, { id: "game-again" })));
    head.focus();
  }
  const focusFirst = () => document.getElementById("game-yes").focus();

  /* The slider ------------------------------------------------------------------------------------ */

  const slide = document.getElementById("slider");

  function outline(shares, left, base, width, height, most) {
    const step = width / shares.length;
    let path = `M${left},${base}`;
    shares.forEach((share, i) => {
      const y = base - (height * share) / most;
      path += `L${left + i * step},${y}L${left + (i + 1) * step},${y}`;
    });
    return path + `L${left + width},${base}`;
  }

  function histogram(stop) {
    const [left, whole, base, height, most] = [42, roomIn(slide), 200, 180, 0.35];
    const width = whole - left - 20;
    const svg = canvas(whole, 240, "game-histogram");
    svg.setAttribute("aria-label",
      `${stop.name}: score of the true class, members against non-members`);
    for (const share of [0.1, 0.2, 0.3]) {
      const y = base - (height * share) / most;
      svg.append(make("line", { x1: left, x2: left + width, y1: y, y2: y, class: "game-grid" }));
      svg.append(make("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, `${share * 100}\u00a0%`));
    }
    svg.append(make("text", { x: 2, y: 12 }, "share of records"));
    svg.append(make("path", { d: outline(stop.members, left, base, width, height, most),
      class: "game-members" }));
    svg.append(make("path", { d: outline(stop.nonmembers, left, base, width, height, most),
      class: "game-nonmembers" }));
    const cut = left + (width * nines(stop.at)) / 6;
    svg.append(make("line", { x1: cut, x2: cut, y1: 20, y2: base, class: "game-cut" }));
    axis(svg, base, left, width);
    return svg;
  }

  function told(stop) {
    const bare = GAME.slider[0];
    const text = `${stop.name}: the threshold is right in ${percent(stop.threshold)}, the label `
      + `alone in ${percent(stop.label)}. `;
    return stop === bare
      ? text + "This is the classifier without a purifier."
      : text + `Scores of non-members moved by ${stop.moved.toFixed(3)} in L1, and `
        + `${percent(stop.right[1])} of non-members are answered rightly (bare: `
        + `${percent(bare.right[1])}).`;
  }

  function makeSlider() {
    const last = GAME.slider.length - 1;
    const drawing = make("div", {});
    const status = make("p", { role: "status", class: "game-said" });
    const input = make("input", { type: "range", min: 0, max: last, step: 1, value: 0,
      id: "game-lambda", oninput: move });
    const names = make("div", { class: "game-stops", "aria-hidden": "true" },
      ...GAME.slider.map((stop) => make("span", {}, stop.name.replace("λ = ", ""))));
    const legend = make("p", { class: "game-legend" },
      make("span", { class: "game-key game-key-members" }), "members ",
      make("span", { class: "game-key game-key-nonmembers" }), "non-members ",
      make("span", { class: "game-key game-key-cut" }), "threshold");
    slide.replaceChildren(
      make("label", { for: "game-lambda" }, "weight λ of the purifier's label term, from bare"),
      input, names, legend, drawing, status);
    function move() {
      const stop = GAME.slider[Number(input.value)];
      input.setAttribute("aria-valuetext", stop.name);
      drawing.replaceChildren(histogram(stop));
      status.textContent = told(stop);
    }
    move();
    return () => drawing.replaceChildren(histogram(GAME.slider[Number(input.value)]));
  }

  const made = GAME.made;
  document.getElementById("game-made").textContent = `Made by dev/docs/game.py at commit `
    + `${made.commit} (purification_nb ${made.library}, torch ${made.torch}, ${made.threads} `
    + `thread), from ${made.data} with seed ${made.seed}.`;
  begin("bare");
  const drawAgain = makeSlider();
  window.addEventListener("resize", () => {
    box.querySelector(".game-strip").replaceWith(strip(game, results[game.mode] === game));
    drawAgain();
  });
})();
