/* Part 2, a block: numbers that share a scale, some of them to drag, and what each format makes of all. */
(() => {
  "use strict";

  const { make, draw, drag, onWidth, labelled, select, segments, show, short, percent, parse, say } = fp8sim.page;
  const { quantize } = fp8sim.arithmetic;
  const { title, fields } = fp8sim.words;
  const { formats, scale_formats, scale_rules, sample } = fp8sim.data;

  const GRANULARITIES = [["tensor", "all"], ["row", "a row"], ["1x128", "1x128"], ["1x32", "1x32"], ["1x16", "1x16"]];
  const WINDOW = 16, ACROSS = 32, MOST = 512; // numbers as bars; of one line of a picture of all; that can be written
  const TOP = 9000, BEND = 0.0005; // the most a bar can be dragged to; where the scale of bars turns logarithmic

  const defaults = {
    values: "sample", // or numbers, apart by commas
    set: "", // what was changed of the sample: 5:9000,17:0.5
    bar: "5", // the number that is taken apart
    granularity: "tensor",
    scale: "fp32",
    rule: "default",
    format: "e4m3,e5m2,e2m1,int8", // the first is shown in the bars
  };

  /** Numbers from text; a RangeError says what is none. */
  function numbers(text) {
    const words = text.split(/[\s,;]+/).filter((word) => word);
    if (!words.length) throw new RangeError("Write at least one number.");
    if (words.length > MOST) throw new RangeError(`At most ${MOST} numbers, not ${words.length}.`);
    return words.map((word) => {
      const x = parse(word);
      if (x === null) throw new RangeError(`\u201c${word}\u201d is no number: write it like 0.3`);
      if (!Number.isFinite(x)) throw new RangeError("NaN and infinity have no scale.");
      return x;
    });
  }

  /** A state made fit to be drawn: what makes no sense is the default. */
  function read(state) {
    let values = sample.values.slice(), columns = sample.columns, problem = "";
    if (state.values !== "sample") {
      try {
        values = numbers(state.values);
        columns = values.length;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        problem = error.message;
      }
    }
    const changed = new Map();
    for (const [, place, text] of state.set.matchAll(/(\d{1,3}):([^,]+)/g)) {
      const x = parse(text);
      if (Number(place) < values.length && x !== null && Number.isFinite(x)) changed.set(Number(place), x);
    }
    for (const [place, x] of changed) values[place] = x;
    const bar = Math.min(/^\d{1,3}$/.test(state.bar) ? Number(state.bar) : 0, values.length - 1);
    const granularity = GRANULARITIES.some(([name]) => name === state.granularity) ? state.granularity : defaults.granularity;
    const scaleFormat = Object.hasOwn(scale_formats, state.scale) ? state.scale : defaults.scale;
    const rules = scale_formats[scaleFormat].filter((name) => !name.startsWith("4over6") || granularity === "1x16");
    const rule = rules.includes(state.rule) ? state.rule : rules[0];
    const chosen = [...new Set(state.format.split(","))].filter((name) => formats[name]?.signed && formats[name].zero);
    const lanes = chosen.length ? chosen : defaults.format.split(",");
    const results = lanes.map((format) => {
      try {
        return { format, ...quantize(values, { format, granularity, columns, scaleFormat, rule }) };
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        return { format, refused: error.message };
      }
    });
    return { values, columns, changed, problem, bar, start: Math.floor(bar / WINDOW) * WINDOW, granularity, scaleFormat, rules, rule, lanes, results };
  }

  const miss = (element) => (element.x === element.value ? 0 : Math.abs((element.value - element.x) / element.x));

  /** Mean of the relative errors of what is not zero. */
  function meanError(elements) {
    const some = elements.filter((element) => element.x !== 0);
    return some.reduce((total, element) => total + miss(element), 0) / Math.max(some.length, 1);
  }

  const KINDS = [
    ["fine", "error below 1/16"], ["rough", "below 1/4"], ["bad", "more"], ["gone", "became 0"], ["full", "saturated"],
  ];

  function kindOf(element) {
    if (element.saturated) return "full";
    if (element.flushed) return "gone";
    const error = miss(element);
    return error <= 1 / 16 ? "fine" : error <= 1 / 4 ? "rough" : "bad";
  }

  /** Height of a bar from -1 to 1: linear near zero, logarithmic beyond. */
  const height = (x) => Math.min(Math.log2(1 + Math.abs(x) / BEND) / Math.log2(1 + (1.15 * TOP) / BEND), 1) * Math.sign(x);

  /** The number at a height, to three digits. */
  function atHeight(h) {
    const magnitude = BEND * (2 ** (Math.abs(h) * Math.log2(1 + (1.15 * TOP) / BEND)) - 1);
    return Math.sign(h) * Math.min(magnitude < BEND / 4 ? 0 : Number(magnitude.toPrecision(3)), TOP);
  }

  /** The bars: {element, update(now)}. */
  function bars(choose, move) {
    const TALL = 300, LEFT = 52, ROW = 24, middle = TALL / 2;
    const svg = draw("svg", { role: "group", "aria-label": "Bars of 16 numbers", class: "bars" });
    const back = draw("g", { "aria-hidden": "true" }), front = draw("g", { "aria-hidden": "true" });
    const columns = Array.from({ length: WINDOW }, (_, i) => {
      const parts = { hit: draw("rect", { class: "hit" }), body: draw("rect", {}), value: draw("line", { class: "level" }), knob: draw("circle", { r: 5, class: "knob" }) };
      const group = draw("g", { role: "slider", class: "bar", "aria-orientation": "vertical" }, ...Object.values(parts));
      group.addEventListener("keydown", (event) => press(event, now.start + i));
      return { group, ...parts };
    });
    const middles = draw("g");
    svg.append(back, middles, front);
    let now = null, held = null, wanted = false;

    const width = () => Math.max(svg.clientWidth, 280);
    const yOf = (x) => middle - height(x) * (middle - 8);

    function press(event, place) {
      const x = now.values[place];
      const by = { ArrowUp: 0.01, ArrowDown: -0.01, PageUp: 0.1, PageDown: -0.1 }[event.key];
      const side = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by !== undefined) move(place, atHeight(Math.max(-1, Math.min(1, height(x) + by))));
      else if (side) {
        wanted = true;
        choose(Math.min(Math.max(place + side, 0), now.values.length - 1));
      } else if (event.key === "Home" || event.key === "End") move(place, event.key === "End" ? TOP : 0);
      else return;
      event.preventDefault();
    }

    drag(svg, {
      hold: true,
      start: (event) => {
        const box = svg.getBoundingClientRect(), x = event.clientX - box.left - LEFT;
        const place = now.start + Math.floor((x / (width() - LEFT)) * WINDOW);
        if (x < 0 || place >= now.values.length) return false;
        held = place;
        choose(place);
        return event.clientY - box.top < TALL;
      },
      move: (event) => {
        const y = event.clientY - svg.getBoundingClientRect().top;
        move(held, atHeight(Math.max(-1, Math.min(1, (middle - y) / (middle - 8)))));
      },
    });

    function paintBack(w) {
      const shapes = [];
      const { elements } = now.results[0];
      if (elements) {
        const { scale } = elements[now.start], fmt = formats[now.lanes[0]];
        // To nearest even the tie, half the smallest value, goes to zero.
        const zone = yOf((fmt.smallest_subnormal / 2) * scale);
        shapes.push(draw("rect", { x: LEFT, y: zone, width: w - LEFT, height: Math.max(2 * (middle - zone), 0), class: "zone" }));
      }
      for (const power of [-3, -2, -1, 0, 1, 2, 3]) {
        for (const sign of [1, -1]) {
          const y = yOf(sign * 10 ** power);
          shapes.push(draw("line", { x1: LEFT, x2: w, y1: y, y2: y, class: "grid" }));
          if (power % 2 || power === 0) shapes.push(draw("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end", class: "muted" }, show(sign * Number(`1e${power}`)).replace("-", "\u2212")));
        }
      }
      shapes.push(draw("line", { x1: LEFT, x2: w, y1: middle, y2: middle, class: "zero" }));
      back.replaceChildren(...shapes);
    }

    function paintBar(parts, i, w) {
      const place = now.start + i;
      const cell = (w - LEFT) / WINDOW, x = LEFT + i * cell, value = now.values[place], y = yOf(value);
      const element = now.results[0].elements?.[place];
      const set = (shape, attributes) => Object.entries(attributes).forEach(([name, text]) => shape.setAttribute(name, text));
      const chosen = place === now.bar;
      set(parts.hit, { x, y: 0, width: cell, height: TALL, class: chosen ? "hit chosen" : "hit" });
      set(parts.body, { x: x + cell * 0.2, y: Math.min(y, middle), width: cell * 0.6, height: Math.max(Math.abs(y - middle), 1), class: element ? `body ${kindOf(element)}` : "body" });
      const level = element ? yOf(element.value) : y;
      set(parts.value, { x1: x + cell * 0.08, x2: x + cell * 0.92, y1: level, y2: level });
      set(parts.knob, { cx: x + cell / 2, cy: y });
      const became = element ? `, becomes ${short(element.value)} in ${title(now.lanes[0])}${element.flushed ? ", flushed to 0" : ""}${element.saturated ? ", saturated" : ""}` : "";
      set(parts.group, {
        tabindex: chosen ? "0" : "-1", "aria-label": `Number ${place + 1} of ${now.values.length}`, "aria-valuemin": -TOP, "aria-valuemax": TOP,
        "aria-valuenow": show(value), "aria-valuetext": `${short(value)}${became}`, id: `bar-${i}`,
      });
    }

    /** Below the bars, a cell for each number in each format. */
    function paintCells(w) {
      const cell = (w - LEFT) / WINDOW, shapes = [];
      now.results.forEach(({ format, elements }, lane) => {
        const y = TALL + 6 + ROW * lane;
        shapes.push(draw("text", { x: LEFT - 6, y: y + 16, "text-anchor": "end", class: lane ? "muted" : "first" }, title(format)));
        (elements ?? []).slice(now.start, now.start + WINDOW).forEach((element, i) => {
          const x = LEFT + i * cell;
          shapes.push(draw("rect", { x: x + 1, y, width: cell - 2, height: ROW - 3, rx: 2, class: `cell ${kindOf(element)}` }));
          const words = element.flushed ? "0" : element.saturated ? "\u25b2" : cell > 46 ? percent(Number(miss(element).toPrecision(2))).replace(" ", "\u2009") : "";
          if (words) shapes.push(draw("text", { x: x + cell / 2, y: y + 15, "text-anchor": "middle", class: `in-cell ${kindOf(element)}` }, words));
        });
      });
      front.replaceChildren(...shapes);
    }

    function paint() {
      if (!now) return;
      const w = width(), tall = TALL + 8 + ROW * now.results.length;
      svg.setAttribute("viewBox", `0 0 ${w} ${tall}`);
      svg.setAttribute("height", tall);
      paintBack(w);
      const some = columns.slice(0, now.values.length - now.start); // the last sixteen may be fewer
      if (some.length !== middles.childElementCount) middles.replaceChildren(...some.map(({ group }) => group));
      some.forEach((parts, i) => paintBar(parts, i, w));
      paintCells(w);
    }

    onWidth(svg, paint);
    return {
      element: svg,
      update(next) {
        now = next;
        paint();
        if (wanted) columns[now.bar - now.start].group.focus();
        wanted = false;
      },
    };
  }

  /** A frame around some numbers that follow each other, in a picture of all. */
  function frameOf(first, last, kind) {
    const [top, bottom] = [first, last].map((i) => Math.floor(i / ACROSS)), whole = top < bottom;
    const [left, right] = whole ? [0, ACROSS - 1] : [first % ACROSS, last % ACROSS];
    return draw("rect", { x: left - 0.05, y: top - 0.05, width: right - left + 1, height: bottom - top + 1, class: kind });
  }

  /** A picture of all numbers in one format, a square for each, and what was lost in words. */
  function picture(result, now, choose) {
    const { format, elements, refused } = result, fmt = title(format);
    if (refused) return make("figure", { className: "all" }, make("figcaption", {}, make("b", {}, fmt), ` ${refused}.`));
    const lines = Math.ceil(elements.length / ACROSS), shapes = new Map(KINDS.map(([kind]) => [kind, ""]));
    elements.forEach((element, i) => {
      const kind = kindOf(element);
      shapes.set(kind, `${shapes.get(kind)}M${i % ACROSS} ${Math.floor(i / ACROSS)}h.9v.9h-.9z`);
    });
    const lost = `${result.flushed} became 0${result.saturated ? `, ${result.saturated} saturated` : ""}`;
    const words = `${lost}; mean error ${percent(meanError(elements))}`;
    const svg = draw("svg", { viewBox: `-.2 -.2 ${ACROSS + 0.4} ${lines + 0.4}`, role: "img", "aria-label": `All numbers in ${fmt}: ${words}` },
      ...[...shapes].map(([kind, d]) => draw("path", { d, class: kind })),
      frameOf(result.group.indexOf(result.group[now.bar]), result.group.lastIndexOf(result.group[now.bar]), "group"),
      frameOf(now.start, Math.min(now.start + WINDOW, elements.length) - 1, "window"));
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect(), unit = box.width / (ACROSS + 0.4);
      const place = Math.floor((event.clientY - box.top) / unit - 0.2) * ACROSS + Math.floor((event.clientX - box.left) / unit - 0.2);
      if (place >= 0 && place < elements.length) choose(place);
    });
    return make("figure", { className: "all" }, make("figcaption", {}, make("b", {}, fmt),
      ` error ${percent(meanError(elements))}`, make("br"), lost), svg);
  }

  function mount(root, state, change) {
    let now = read(state), latest = state;
    const told = make("p", { className: "told" }), why = make("p", { className: "why" });

    function move(place, x) {
      if (latest.values !== "sample") {
        const values = now.values.slice();
        values[place] = x;
        change({ values: values.map(show).join(","), bar: String(place) });
        return;
      }
      const changed = new Map(now.changed);
      if (x === sample.values[place]) changed.delete(place);
      else changed.set(place, x);
      change({ set: [...changed].map(([at, value]) => `${at}:${show(value)}`).join(","), bar: String(place) });
    }

    const choose = (place) => change({ bar: String(place) });
    const granularity = segments("Who shares a scale", GRANULARITIES, (name) => change({ granularity: name }));
    const scale = segments("What a scale is stored in", Object.keys(scale_formats).map((name) => [name, title(name)]),
      (name) => change({ scale: name, rule: "default" }));
    const rule = select([], (name) => change({ rule: name }));
    rule.id = "rule";
    const hint = make("p", { className: "hint", id: "rule-hint" });
    const chart = bars(choose, move);
    const exact = make("input", { type: "text", id: "exact", autocomplete: "off", spellcheck: false, size: 12 });
    exact.addEventListener("change", () => {
      const x = parse(exact.value);
      if (x !== null && Number.isFinite(x)) move(now.bar, x);
      else exact.value = show(now.values[now.bar]);
    });
    const exactLabel = make("label", { htmlFor: "exact" });
    const large = make("button", { type: "button", className: "plain", id: "large", onclick: () => move(now.bar, TOP) }, `Make it ${TOP}`);
    const undo = make("button", { type: "button", className: "plain", id: "undo", onclick: () => change({ set: "", values: "sample" }) }, "Start again");
    const body = make("tbody", { role: "rowgroup" });
    const heads = ["format", "over its scale", "bits", "becomes", "error"].map((text) => make("th", { role: "columnheader", scope: "col" }, text));
    const table = make("table", { role: "table", className: "one" }, make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads)), body);
    const pictures = make("div", { className: "pictures" });
    const legend = make("p", { className: "legend" }, ...KINDS.map(([kind, words]) => make("span", { className: "key" }, make("i", { className: kind }), words)));
    const own = make("textarea", { rows: 3, id: "own", spellcheck: false });
    const problem = make("p", { className: "problem", role: "alert", id: "own-problem" });
    own.setAttribute("aria-describedby", "own-problem");
    own.addEventListener("change", () => change({ values: own.value.trim().split(/[\s,;]+/).join(",") || "sample", set: "", bar: "0" }));
    const side = make("h2"), barsHint = make("p", { className: "hint" });

    root.append(told, why,
      make("div", { className: "controls" },
        make("div", { className: "field" }, make("span", { className: "label", "aria-hidden": "true" }, "One scale for"), granularity.element),
        make("div", { className: "field" }, make("span", { className: "label", "aria-hidden": "true" }, "stored in"), scale.element),
        labelled("picked by", rule)),
      hint,
      make("div", { className: "block" },
        make("section", {}, make("h2", {}, "Sixteen of them, to drag"), barsHint, chart.element,
          make("div", { className: "code-row tools" }, make("div", { className: "field" }, exactLabel, exact), large, undo), table),
        make("section", {}, side, make("p", { className: "hint" }, "A square for each number, press one to see it; the dashed frame shares its " +
          "scale. The error is the mean of all relative errors."), legend, pictures)),
      make("details", { className: "tools" }, make("summary", {}, "Numbers of your own"), labelled("Numbers, apart by spaces or commas", own), problem));
    rule.setAttribute("aria-describedby", "rule-hint");

    function sentence() {
      const [first] = now.results, fmt = title(now.lanes[0]), count = now.values.length;
      const who = { tensor: `one scale for all ${count} numbers`, row: "a scale for each row" }[now.granularity] ?? `a scale for every ${now.granularity.slice(2)} numbers`;
      if (first.refused) return [`With ${who}: ${first.refused}.`];
      const lost = first.flushed ? [make("b", { className: "lost" }, `${first.flushed} of ${count}`), " become 0"] : [make("b", {}, "none"), " becomes 0"];
      return [`With ${who}, `, ...lost, ` in ${fmt}`, first.saturated ? `, and ${first.saturated} saturate.` : "."];
    }

    function reason() {
      const [first] = now.results;
      if (first.refused) return "";
      const group = first.group[now.bar], { scale: factor } = first.elements[now.bar], fmt = formats[now.lanes[0]];
      const members = first.elements.filter((_, i) => first.group[i] === group);
      const most = members.reduce((top, element) => (Math.abs(element.x) > Math.abs(top.x) ? element : top));
      return `The largest of the ${members.length} that share it is ${show(most.x)}, so their scale is ${short(factor, 5)}: ` +
        `${short(Math.abs(most.x), 5)} / ${short(factor, 5)} = ${short(Math.abs(most.scaled), 5)}, where ${title(fmt.name)} ends at ${show(fmt.max)}. ` +
        `What is at most ${short((fmt.smallest_subnormal / 2) * factor, 3)} becomes 0.`;
    }

    function paintTable() {
      body.replaceChildren(...now.results.map((result, i) => {
        const fmt = formats[result.format], element = result.elements?.[now.bar];
        const name = i === 0 ? make("b", {}, title(fmt.name)) : make("button", {
          type: "button", className: "link", title: `Show ${title(fmt.name)} in the bars`,
          onclick: () => change({ format: [fmt.name, ...now.lanes.filter((other) => other !== fmt.name)].join(",") }),
        }, title(fmt.name));
        const cells = element ? [
          [short(element.scaled, 5), "scaled"],
          [fields(element.code, fmt).map(([field, bits]) => make("span", { className: `${field}-bit` }, bits)), "bits"],
          [short(element.value, 6), "becomes"],
          [element.saturated ? "saturated" : element.flushed ? "became 0" : element.x === element.value ? "exact" : percent(miss(element)), element.saturated || element.flushed ? "off lost" : "off"],
        ] : [["", ""], ["", ""], ["", ""], [result.refused, "off"]];
        return make("tr", { role: "row" }, make("th", { role: "rowheader", scope: "row" }, name),
          ...cells.map(([content, className]) => make("td", { role: "cell", className }, ...[content].flat())));
      }));
    }

    return (next) => {
      latest = next;
      now = read(next);
      told.replaceChildren(...sentence());
      why.textContent = reason();
      granularity.press(now.granularity);
      scale.press(now.scaleFormat);
      rule.replaceChildren(...now.rules.map((name) => make("option", { value: name }, name)));
      rule.value = now.rule;
      hint.textContent = `${now.rule}: ${scale_rules[now.rule]}.`;
      const lead = title(now.lanes[0]);
      barsHint.textContent = `Drag one up to ${TOP} and watch the others. Short lines: what they become in ${lead}. ` +
        `What stays inside the pink band becomes 0 there.`;
      chart.update(now);
      exactLabel.textContent = `Number ${now.bar + 1}`;
      if (document.activeElement !== exact) exact.value = show(now.values[now.bar]);
      undo.disabled = next.values === "sample" && !now.changed.size;
      side.textContent = now.columns < now.values.length
        ? `All ${now.values.length}: ${now.values.length / now.columns} rows of ${now.columns}` : `All ${now.values.length}`;
      pictures.replaceChildren(...now.results.map((result) => picture(result, now, choose)));
      paintTable();
      problem.textContent = now.problem;
      if (document.activeElement !== own) own.value = next.values === "sample" ? "" : next.values.replaceAll(",", " ");
      say(`${told.textContent} ${why.textContent}`);
    };
  }

  fp8sim.parts.block = { title: "A block", defaults, mount };
})();
