/* Part 4, Amdahl's law: how much of a model FP8 makes faster, and what that leaves of the sentence. */
(() => {
  "use strict";

  const { make, draw, labelled, select, segments, percent, short, say } = fp8sim.page;
  const { models, gemm_speedups, sentence, published } = fp8sim.data;

  const OWN = "own"; // no model: a share that is set by hand
  const NAMES = Object.keys(models);
  const LEAST = 10, MOST = 17; // powers of two: the context, 1024 to 131072 tokens
  const FASTEST = 8;
  const HALF = 0.5;

  const DEFAULTS = { model: NAMES[0], context: "4096", speedup: String(gemm_speedups[0].ratio), share: "0.5" };
  const CONTEXTS = [4096, 32768, 131072];

  function numberIn(text, least, most, otherwise) {
    const x = text.trim() === "" ? NaN : Number(text);
    return x >= least && x <= most ? x : otherwise;
  }

  /** The shares of a model's flops at a context: in FP8's GEMMs, in attention, in what else stays. */
  function sharesOf(model, context) {
    const { fp8_flops, kept_flops, attention_flops } = models[model];
    const attention = attention_flops * context, all = fp8_flops + kept_flops + attention;
    return { fp8: fp8_flops / all, attention: attention / all, kept: kept_flops / all };
  }

  /** What is left of the time of the whole where a share of it becomes so many times faster. */
  const timeLeft = (share, speedup) => 1 - share + share / speedup;

  function settingsOf(state) {
    const model = state.model === OWN || Object.hasOwn(models, state.model) ? state.model : DEFAULTS.model;
    const context = Math.round(numberIn(state.context, 1, 2 ** 20, Number(DEFAULTS.context)));
    const speedup = numberIn(state.speedup, 1, FASTEST, Number(DEFAULTS.speedup));
    const own = numberIn(state.share, 0, 1, Number(DEFAULTS.share));
    const shares = model === OWN ? { fp8: own, attention: 0, kept: 1 - own } : sharesOf(model, context);
    return { model, context, speedup, shares, left: timeLeft(shares.fp8, speedup) };
  }

  const unbroken = (text) => text.replace(/ %/g, "\u00a0%");
  const two = (x) => short(x, 3);
  const tokens = (n) => (n % 1024 === 0 ? `${n / 1024}K tokens` : `${n} tokens`);

  /** What is left of "halved": decided by the thresholds of fp8sim claims. */
  function judge({ left }) {
    if (left <= sentence.holds) return ["holds", "“Halved” holds"];
    return left <= sentence.partly ? ["partly", "“Halved” holds in part"] : ["fails", "“Halved” does not hold"];
  }

  /** What it would take to halve the whole. */
  function needed({ shares: { fp8 }, speedup, left }) {
    if (left <= HALF + 1e-12) return "";
    if (fp8 <= HALF) {
      return `No FP8 unit is fast enough to halve it: ${percent(1 - fp8)} of the work stays as slow as it was.`;
    }
    const wanted = fp8 / (fp8 - HALF);
    return `To halve the whole, the FP8 products would have to be ${two(wanted)} times as fast, not ${two(speedup)}: ` +
      `the other ${percent(1 - fp8)} takes its time all the same.`;
  }

  /** The two bars, before and after: FP8's part hatched, the rest plain, a line at one half. */
  function bars({ model, shares, speedup, left }) {
    const [W, H, height] = [360, 196, 38];
    const x = (share) => 1 + (W - 2) * share;
    const parts = [["fp8", "FP8 products", shares.fp8], ["attention", "attention", shares.attention],
      ["kept", "the rest", shares.kept]];
    const after = `${percent(left)} of the time is left`;
    const svg = draw("svg", {
      viewBox: `0 0 ${W} ${H}`, role: "img", class: "amdahl",
      "aria-label": `Before: ${parts.filter(([, , share]) => share).map(([, name, share]) => `${name} ${percent(share)}`).join(", ")}. ` +
        `With FP8: ${after}.`,
    });
    const hatch = draw("pattern", { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      draw("rect", { width: 7, height: 7, class: "fp8" }), draw("line", { x1: 0, y1: 0, x2: 0, y2: 7, class: "hatching" }));
    svg.append(draw("defs", {}, hatch));
    const bar = (y, title, faster) => {
      svg.append(draw("text", { class: "name", x: 0, y: y - 6 }, title));
      let at = 0;
      for (const [key, name, share] of parts) {
        const wide = key === "fp8" ? share / faster : share;
        if (wide > 0) {
          svg.append(draw("rect", { class: `part-${key}`, x: x(at), y, width: Math.max(0, x(at + wide) - x(at)), height,
            ...(key === "fp8" ? { fill: "url(#hatch)" } : {}) }));
        }
        const label = `${name} ${percent(wide)}`;
        if (7.4 * label.length + 12 < (W - 2) * wide) labels.push(draw("text", { class: `in-${key}`, x: x(at) + 6, y: y + height / 2 + 4 }, label));
        at += wide;
      }
    };
    const labels = [];
    svg.append(draw("text", { class: "muted", x: x(HALF), y: 158, "text-anchor": "middle" }, "half"));
    bar(20, "all in BF16: 100 %", 1);
    bar(98, `FP8 ${two(speedup)} times as fast: ${percent(left)}`, speedup);
    for (const y of [16, 94]) svg.append(draw("line", { class: "goal", x1: x(HALF), x2: x(HALF), y1: y, y2: y + height + 9 }));
    svg.append(...labels);
    let at = 1;
    for (const [key, name, share] of parts) {
      if (share === 0) continue;
      svg.append(draw("rect", { class: `part-${key}`, x: at, y: 178, width: 12, height: 12, ...(key === "fp8" ? { fill: "url(#hatch)" } : {}) }),
        draw("text", { x: at + 17, y: 188 }, name));
      at += 17 + 7 * name.length + 20;
    }
    return svg;
  }

  /** What is left at each context, as a curve: where the slider is, and the line of one half. */
  function contextPicture({ model, context, speedup }) {
    const [W, H, left, right, top, bottom] = [360, 196, 46, 16, 12, 40];
    const x = (n) => left + ((W - left - right) * (Math.log2(n) - LEAST)) / (MOST - LEAST);
    const y = (share) => H - bottom - (H - top - bottom) * share;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", class: "amdahl",
      "aria-label": `Time left against context: ${CONTEXTS.map((n) =>
        `${tokens(n)} ${percent(timeLeft(sharesOf(model, n).fp8, speedup))}`).join(", ")}.` });
    for (const share of [0, 0.25, 0.5, 0.75, 1]) {
      svg.append(draw("line", { class: share === HALF ? "goal" : "grid", x1: left, x2: W - right, y1: y(share), y2: y(share) }),
        draw("text", { class: "muted", x: left - 6, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
    }
    for (let n = LEAST; n <= MOST; n++) {
      svg.append(draw("text", { class: "muted", x: x(2 ** n), y: H - bottom + 17, "text-anchor": "middle" }, `${2 ** (n - 10)}K`));
    }
    svg.append(draw("text", { class: "muted", x: (left + W - right) / 2, y: H - 2, "text-anchor": "middle" }, "context, tokens"));
    const at = Array.from({ length: (MOST - LEAST) * 4 + 1 }, (_, i) => 2 ** (LEAST + i / 4));
    svg.append(draw("polyline", { class: "curve own",
      points: at.map((n) => `${x(n).toFixed(1)},${y(timeLeft(sharesOf(model, n).fp8, speedup)).toFixed(1)}`).join(" ") }));
    const here = Math.min(2 ** MOST, Math.max(2 ** LEAST, context));
    const spot = [x(here), y(timeLeft(sharesOf(model, here).fp8, speedup))];
    svg.append(draw("line", { class: "here", x1: spot[0], x2: spot[0], y1: spot[1], y2: H - bottom }),
      draw("circle", { class: "here", cx: spot[0], cy: spot[1], r: 5 }));
    return svg;
  }

  /** A slider with its value in its label. */
  function slider(name, hint, range, choose) {
    const output = make("output");
    const control = make("input", { type: "range", ...range, oninput: () => choose(Number(control.value)) });
    const field = labelled(name, control, hint);
    field.querySelector("label").append(": ", output);
    const set = (value, text, disabled = false) => {
      control.value = String(value);
      control.disabled = disabled;
      output.textContent = text;
      control.setAttribute("aria-valuetext", text);
    };
    return { field, set };
  }

  fp8sim.parts.amdahl = {
    title: "Amdahl’s law",
    defaults: DEFAULTS,
    mount(root, state, change) {
      let now = settingsOf(state);
      const told = make("p", { className: "told" }), why = make("p", { className: "why" });
      const verdict = make("strong"), words = make("blockquote", { className: "sentence" });
      const [before, after] = sentence.text.split(/(?<=halved computational requirements)/);
      const [first] = before.split("halved computational requirements");
      words.append(`“${first}`, make("mark", {}, "halved computational requirements"), `${after ?? ""}”`);

      const model = select([...NAMES.map((name) => [name, name]), [OWN, "none: a share of your own"]], (name) =>
        change(name === OWN ? { model: name, share: now.shares.fp8.toFixed(3) } : { model: name }));
      const share = slider("Share of the work in FP8 products", "Follows from model and context; move it to try another.",
        { min: "0", max: "1", step: "0.005" }, (value) => change({ model: OWN, share: String(value) }));
      const speedup = slider("Products of matrices in FP8 are faster by", "", { min: "1", max: "4", step: "0.05" },
        (value) => change({ speedup: String(value) }));
      const context = slider("Context", "Each token looks back at those before it: that is attention, and it stays in BF16.",
        { min: String(LEAST), max: String(MOST), step: "0.25" }, (power) => change({ context: String(Math.round(2 ** power)) }));
      const rates = segments("Speed-ups known", gemm_speedups.map((row) => [String(row.ratio), `${two(row.ratio)}\u00a0×`]),
        (ratio) => change({ speedup: ratio }));
      const rate = make("p", { className: "hint" });
      const lengths = segments("Contexts", CONTEXTS.map((n) => [String(n), tokens(n)]), (n) =>
        change({ context: n, ...(now.model === OWN ? { model: NAMES[0] } : {}) }));
      const picture = make("figure", { className: "picture" }), curve = make("figure", { className: "picture" });

      root.append(make("p", { className: "hint intro" }, "Amdahl’s law: what gets faster helps only as far as there is much of it."),
        words, told, why,
        make("div", { className: "dot" },
          make("div", {}, make("h2", {}, "Where the time goes"), picture),
          make("div", {}, make("h2", {}, "What is left, by context"), curve)),
        make("h2", { className: "what-if" }, "What if?"),
        make("div", { className: "sliders pairs" },
          labelled("Model", model, "A language model, counted from its published shapes."), make("div", {}, context.field, lengths.element),
          share.field, make("div", {}, speedup.field, rates.element, rate)));

      return (given) => {
        now = settingsOf(given);
        const { left, shares } = now, [kind, ruling] = judge(now), own = now.model === OWN;
        words.className = `sentence ${kind}`;
        verdict.textContent = `${ruling}: `;
        verdict.className = kind;
        told.replaceChildren(verdict, unbroken(`${percent(left)} of the time is left.`));
        why.textContent = unbroken(`${percent(shares.fp8)} of the work ${own ? "" : `of ${now.model} at ${tokens(now.context)} `}is products in FP8, ` +
          `${two(now.speedup)} times as fast; the whole becomes ${two(1 / left)} times as fast. ${needed(now)} ` +
          `(“Halved” is taken to hold up to ${percent(sentence.holds)}, in part up to ${percent(sentence.partly)}.)`);
        picture.replaceChildren(bars(now), make("figcaption", { className: "hint" },
          `The hatched part gets faster, all else takes as long as before${own ? "" : "; “the rest” is the last layer, which picks " +
            "the next word, and what chooses among experts"}. Time is taken to go as floating-point operations do, so that ` +
          "this is the most there is to gain. " +
          `Whole runs in FP8 that others published were ${two(published[0])} to ${two(published[1])} times as fast as in BF16.`));
        curve.replaceChildren(own ? make("p", { className: "hint" }, "Choose a model to see what context does to its share.") : contextPicture(now));
        model.value = now.model;
        share.set(shares.fp8, percent(shares.fp8));
        speedup.set(now.speedup, `${two(now.speedup)}\u00a0×`);
        context.set(Math.log2(now.context), own ? "no model" : tokens(now.context), own);
        rates.press(String(gemm_speedups.find((row) => Math.abs(row.ratio - now.speedup) < 1e-3)?.ratio));
        const known = gemm_speedups.find((row) => Math.abs(row.ratio - now.speedup) < 1e-3);
        rate.textContent = known ? `${known.words}: ${known.source}.` : "A speed-up of your own.";
        lengths.press(own ? "" : String(now.context));
        say(`${told.textContent} ${why.textContent}`);
      };
    },
  };
})();
