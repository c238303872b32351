/* Part 3, a dot product: products slid under the largest exponent and cut off, step by step. */
(() => {
  "use strict";

  const { make, draw, labelled, select, segments, short, percent, say } = fp8sim.page;
  const { exponentOf, round } = fp8sim.arithmetic;
  const { sums } = fp8sim;
  const { formats, cores, laws, outputs } = fp8sim.data;

  const LIKE_IT = 16; // dot products of such numbers that the picture of errors is about; the first is shown
  const FEW = 12; // rows at first
  const LENGTHS = [4, 8, 16, 32, 64]; // of a step
  const INTERVALS = [32, 64, 128, 256, 512, 1024, 2048]; // of promotion
  const COUNTS = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]; // of products
  const MOST_BITS = 40;
  const TAIL = 10; // places that are shown after the cut

  const DEFAULTS = {
    core: "hopper-fp8", format: "", numbers: "positive", k: "4096", seed: "1",
    bits: "", length: "", output: "", promote: "none", at: "", stage: "cut", rows: "few",
  };
  const NUMBERS = [["positive", "all positive, 0 to 1"], ["signs", "of both signs"], ["cancel", "two large ones that cancel"]];

  /** What is worth a look: a name, the settings, and what is seen there. */
  const PRESETS = [
    ["All positive", {}, ({ k }) =>
      `${k} products of numbers from 0 to 1, in one chain of steps. All are positive, so what falls off is always missing, ` +
      "and the larger the sum gets, the more falls off."],
    ["DeepSeek, one chain", { numbers: "signs" }, ({ k }) =>
      `${k} products of both signs, in one chain of steps. What falls off is now missing, now left over, and much of it ` +
      "cancels. So does much of the sum."],
    ["DeepSeek, promoted", { numbers: "signs", promote: "128" }, ({ promote }) =>
      `DeepSeek’s remedy, “promotion”: after every ${promote} products the sum is added to one in FP32 and starts again ` +
      "from zero, so that it never gets large beside the products."],
    ["All positive, promoted", { promote: "128" }, () =>
      "The same remedy where it is needed most: the sum is never much larger than the products, and few bits fall off."],
    ["Why 34 bits?", { numbers: "cancel", k: "32", bits: "33", stage: "add", at: "" }, ({ fmt }) => {
      const [high, low] = [2 * fmt.emax, 2 * exponentOf(fmt.smallest_subnormal)];
      return `Two large products cancel, and the smallest there is should remain. Products of ${fmt.name.toUpperCase()} reach ` +
        `from ${power(high)} down to ${power(low)}, so it takes ${high - low} places below the largest to keep them all: ` +
        "move “places kept”.";
    }],
  ];

  // --- what a state means ---------------------------------------------------------------------------

  function wholeNumber(text, least, most, otherwise) {
    const n = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
    return n >= least && n <= most ? n : otherwise;
  }

  /** The lengths that a step of a core may have; one where its rule fixes it. */
  function lengthsOf(core) {
    if (core.law !== "truncated" && core.law !== "exact") return [core.step];
    const lengths = [...new Set([...LENGTHS, core.step])].sort((x, y) => x - y);
    return lengths.filter((length) => length % (core.group || 1) === 0);
  }

  /** The core that a state asks for: a named one, or that with some of its numbers changed. */
  function coreOf(state) {
    const named = Object.hasOwn(cores, state.core) ? cores[state.core] : cores[DEFAULTS.core];
    const lengths = lengthsOf(named);
    const step = wholeNumber(state.length, 1, 64, named.step);
    const core = { ...named, step: lengths.includes(step) ? step : named.step };
    if (named.law === "truncated" && Object.hasOwn(outputs, state.output) && state.output !== "fp32-rne") {
      core.output = state.output;
      core.out_bits = outputs[core.output];
      core.fp16 = core.output === "fp16-rne";
      core.c_emin = (core.fp16 ? formats.fp16 : formats.fp32).emin;
    }
    const largest = Math.max(...named.inputs.map((name) => formats[name].max));
    const most = Math.min(MOST_BITS, sums.mostBits(core, largest));
    if (named.fraction_bits) core.fraction_bits = Math.min(wholeNumber(state.bits, 1, most, named.fraction_bits), most);
    const changed = ["step", "fraction_bits", "output"].some((name) => core[name] !== named[name]);
    return { named, core, changed, most, lengths };
  }

  function settingsOf(state) {
    const { named, core, changed, most, lengths } = coreOf(state);
    const fmt = formats[named.inputs.includes(state.format) ? state.format : named.inputs[0]];
    const numbers = NUMBERS.some(([name]) => name === state.numbers) ? state.numbers : DEFAULTS.numbers;
    const k = wholeNumber(state.k, 3, 8192, Number(DEFAULTS.k));
    const wanted = wholeNumber(state.promote, 1, k, 0);
    const promote = wanted % core.step === 0 ? wanted : 0;
    const steps = Math.ceil(k / core.step);
    const stage = STAGES.some(([name]) => name === state.stage) ? state.stage : DEFAULTS.stage;
    return {
      named, core, changed, most, lengths, fmt, numbers, k, promote, steps, stage,
      seed: wholeNumber(state.seed, 1, 999999, 1),
      at: wholeNumber(state.at, 1, steps, numbers === "cancel" ? 1 : steps),
      all: state.rows === "all",
    };
  }

  /** Whether settings are those of a preset, of which the one about places is the same for all of them. */
  function alike(preset, now) {
    const key = ({ named, fmt, numbers, k, promote, core: { step, output, fraction_bits } }) =>
      [named.name, fmt.name, numbers, k, promote, step, output, numbers === "cancel" ? "" : fraction_bits].join();
    return key(preset) === key(now);
  }

  /** Remember what a function made of its last few arguments, told apart by `key`. */
  function remembering(make, key, size = 6) {
    const known = new Map();
    return (...args) => {
      const name = key(...args);
      if (!known.has(name)) {
        known.set(name, make(...args));
        if (known.size > size) known.delete(known.keys().next().value);
      }
      return known.get(name);
    };
  }

  const dataKey = ({ named, fmt, numbers, k, seed }) => [named.name, fmt.name, numbers, k, seed].join();
  const coreKey = ({ core }) => [core.step, core.fraction_bits, core.output].join();

  /** The pairs of operands, {a, b}, of which the first is shown. */
  const operands = remembering(({ named, fmt, numbers, k, seed }) => {
    const scale = named.scale_format && formats[named.scale_format];
    const prepare = (x) => sums.operand(x, fmt, named.scale_block, scale, round);
    if (numbers === "cancel") {
      const { max, smallest_normal: tiny } = formats.fp32, fit = 2 ** 63; // whose square, and its inverse, FP32 has
      const most = fmt.max ** 2 > max ? fit : fmt.max;
      const least = fmt.smallest_subnormal ** 2 < tiny ? 1 / fit : fmt.smallest_subnormal;
      const fill = (x) => {
        const values = [...x, ...Array(k - 3).fill(0)];
        return { values, emin: fmt.emin, scales: scale && values.map(() => 1) };
      };
      return [{ a: fill([most, most, least]), b: fill([most, -most, least]) }];
    }
    const next = sums.generator(seed);
    return Array.from({ length: LIKE_IT }, () => {
      const [a, b] = [0, 1].map(() => prepare(sums.draw(next, k, numbers === "positive")));
      return { a, b };
    });
  }, dataKey);

  /** The steps of the dot product that is shown, and its sum. */
  const chain = remembering((settings) => {
    const [{ a, b }] = operands(settings), steps = [];
    const result = sums.chain(settings.core, a, b, { promoteEvery: settings.promote, visit: (step) => steps.push(step) });
    return { steps, result, exact: sums.exact(a, b) };
  }, (settings) => [dataKey(settings), coreKey(settings), settings.promote].join());

  /**
   * The error of the running sums of all pairs: {points: [k, share], small, large, pairs}. The share is the root
   * mean square of the errors over that of the exact sums; small and large count sums by which way they err.
   */
  const errors = remembering((settings, promoteEvery) => {
    const pairs = operands(settings), every = Math.ceil(settings.steps / 128);
    const at = [], found = [], wanted = [];
    let small = 0, large = 0;
    pairs.forEach(({ a, b }) => {
      let exact = 0, i = 0, count = 0, final = 0; // in float64, which is far finer than what is drawn
      const visit = ({ last, total }) => {
        for (; i <= last; i++) exact += a.values[i] * b.values[i] * (a.scales ? a.scales[i] * b.scales[i] : 1);
        count += 1;
        final = total;
        if (count % every && count !== settings.steps) return;
        const place = Math.ceil(count / every) - 1;
        at[place] = last + 1;
        found[place] = (found[place] ?? 0) + (total - exact) ** 2;
        wanted[place] = (wanted[place] ?? 0) + exact ** 2;
      };
      sums.chain(settings.core, a, b, { promoteEvery, visit });
      const size = Math.abs(sums.exact(a, b));
      small += Math.abs(final) < size;
      large += Math.abs(final) > size;
    });
    const share = (i) => (found[i] === 0 ? 0 : Math.sqrt(found[i] / wanted[i]));
    return { points: at.map((k, i) => [k, share(i)]), small, large, pairs: pairs.length };
  }, (settings, promoteEvery) => [dataKey(settings), coreKey(settings), promoteEvery].join(), 12);

  /** One step of the dot product that is shown, taken apart. */
  function takeApart(settings) {
    const { core, at, k } = settings, [{ a, b }] = operands(settings);
    const { steps } = chain(settings), { first, before, after, promoted, total } = steps[at - 1];
    const step = sums.takeApart(core, before, a, b, first);
    const there = step.terms.filter((term) => first + term.from < k);
    const terms = there.map((term) => {
      const to = Math.min(first + term.to, k - 1), single = term.from === term.to;
      return {
        ...describe(term, step.top), name: single ? String(to) : `${first + term.from}-${to}`,
        factors: single ? `${text(a.values[to], 4)} × ${text(b.values[to], 4)}` : "group",
      };
    });
    const carried = { ...describe(step.carried, step.top), name: "sum", factors: "so far" };
    return { ...step, first, stop: Math.min(first + core.step, k), terms, carried, before, after, promoted, sum: total };
  }

  /** A term and how it is written: bits before and after the cut, how many there are, and what they are worth. */
  function describe(term, top) {
    const value = sums.scaled(term.significand, term.exponent);
    const plain = { ...term, value, counts: false, whole: "0", fraction: "", lost: "", ahead: 1, bits: 0, lostBits: 0, lostValue: 0 };
    if (!Number.isFinite(term.significand) || term.significand === 0) return plain;
    const { whole, fraction, lost } = sums.bits(term, top);
    const kept = (whole + fraction).replace(/^0+/, "");
    const written = lost ? kept : kept.replace(/0+$/, "");
    const lostBits = kept ? lost.length : lost.replace(/^0+/, "").length;
    const unit = term.last ?? term.exponent;
    const ahead = Math.max(1, exponentOf(term.significand) + 1); // digits before the point of its own significand
    const lostValue = value - sums.scaled(Math.trunc(sums.scaled(term.significand, term.exponent - unit)), unit);
    return {
      ...plain, counts: true, whole, fraction, lost, ahead, bits: written.length + lostBits, lostBits,
      lostValue: term.last === undefined ? 0 : lostValue,
    };
  }

  // --- what is shown --------------------------------------------------------------------------------

  const STAGES = [["products", "Multiply"], ["slide", "Slide"], ["cut", "Cut"], ["add", "Add"]];

  const unbroken = (text) => text.replace(/ %/g, "\u00a0%");
  const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
  const raised = (n) => String(n).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"["0123456789-".indexOf(c)]);
  const power = (n) => `2${raised(n)}`;

  /** A number to so many digits; very small and very large ones as powers of two, where they are, or of ten. */
  function text(x, digits = 6) {
    const size = Math.abs(x), sign = x < 0 ? "−" : "";
    if (!Number.isFinite(x) || x === 0 || (size >= 1e-3 && size < 1e7)) return short(x, digits).replace("-", "−");
    const exponent = exponentOf(size);
    if (size === 2 ** exponent) return sign + power(exponent);
    const [digit, decade] = size.toExponential(Math.min(digits, 4) - 1).split("e");
    return `${sign}${Number(digit)}\u00a0·\u00a010${raised(Number(decade))}`;
  }

  /** A share in per cent, small ones by powers of ten. */
  const share = (x) => (x !== 0 && x < 1e-5 ? `${text(Number((100 * x).toPrecision(3)), 3)} %` : percent(x));

  /** What became of the sum, in a sentence: how far it is off. */
  function verdict({ result, exact }) {
    const said = `The tensor core’s sum is ${text(result)}`;
    if (Number.isNaN(result) || !Number.isFinite(exact)) return `${said}.`;
    if (result === exact) return `${said}: exact.`;
    if (exact === 0) return `${said}; it should be 0.`;
    const off = Math.abs(result - exact) / Math.abs(exact);
    const way = Math.sign(result) * Math.sign(exact) < 0 ? "off"
      : Math.abs(result) < Math.abs(exact) ? "too small" : "too large";
    return `${said}; it should be ${text(exact)}. It is ${share(off)} ${way}.`;
  }

  /** Whether sums like it err one way: a bias, or noise. */
  function tendency({ small, large, pairs }) {
    if (pairs === 1) return "";
    if (small + large === 0) return `So are all ${pairs} sums of such numbers.`;
    const rest = pairs - small - large, most = Math.max(small, large), way = small > large ? "too small" : "too large";
    if (most === pairs) return `So are all ${pairs} sums of such numbers, ${way}: a bias, not noise.`;
    const counted = `Of ${pairs} sums of such numbers, ${small} come out too small, ${large} too large${rest ? `, ${rest} exact` : ""}`;
    return `${counted}: ${most >= 0.9 * pairs ? "a bias more than noise" : "noise more than a bias"}.`;
  }

  /** What one sees at a stage, in a sentence or two. */
  function caption(settings, step) {
    const { core, stage } = settings;
    const exponents = step.terms.filter((term) => term.counts).map((term) => term.exponent);
    const furthest = exponents.length ? step.top - Math.min(...exponents) : 0;
    const rows = core.group && core.law === "truncated" ? "group" : "product";
    const bits = step.terms.reduce((n, term) => n + term.bits, 0);
    const lost = step.terms.reduce((n, term) => n + term.lostBits, 0);
    const worth = step.terms.reduce((sum, term) => sum + term.lostValue, 0);
    const kept = { "fp32-rz": "cut to the 24 bits of FP32", "fp32-rne": "rounded to the 24 bits of FP32",
      "fp16-rne": "rounded to the 11 bits of FP16" }[core.output] ?? `cut to ${core.out_bits + 1} bits`;
    if (stage === "products") {
      return `Each row is one ${rows}, exact: its bits, of which the one in the column 2ᵉ is worth 2 to the exponent. ` +
        "The last row is the sum so far.";
    }
    if (stage === "slide") {
      return `To be added, bits of the same worth must stand in one column. So every row slides right until it ` +
        `stands under the largest exponent, ${step.top}: by ${plural(furthest, "place")} at most.`;
    }
    if (core.law === "exact" || core.law === "pairwise") {
      const law = laws[core.law].replace(/ \(.*\)$/, "");
      return `Nothing is cut off here. This core’s rule: ${law}.`;
    }
    if (stage === "cut") {
      const adder = `The adder keeps ${core.fraction_bits + 1} bits, that in the column of ${power(step.top)} and ${core.fraction_bits} after it`;
      if (!lost) return `${adder}. No bit of these ${plural(step.terms.length, rows)} hangs over.`;
      return `${adder}. What hangs over falls off, and is not rounded: ${lost} of the ${bits} bits of these ` +
        `${plural(step.terms.length, rows)} (${share(lost / bits)}), in all worth ${text(worth, 3)}.`;
    }
    const last = step.stop >= settings.k;
    const next = step.promoted
      ? `The chain is then added to the FP32 sum, which becomes ${text(step.sum)}${last ? "." : "; the next chain starts from 0."}`
      : last ? "That is the result." : "With that the next step starts.";
    return `What is left is added exactly, and ${kept}: ${text(step.after)}. ${next}`;
  }

  /** The rows of bits: each a run of zeros, kept bits and lost ones, on a lane with a line where it is cut. */
  function laneTable(settings, step, change) {
    const { core, stage } = settings;
    const aligned = step.last !== undefined;
    const places = aligned ? step.top - step.last : Math.max(0, ...step.terms.map((term) => term.fraction.length));
    const total = totalRow(core, step);
    const shown = settings.all ? step.terms : step.terms.filter((term) => term.value !== 0).slice(0, FEW);
    const rest = step.terms.filter((term) => !shown.includes(term));
    const wide = Math.max(total.whole.length, ...[...step.terms, step.carried].map((term) => Math.max(term.whole.length, term.ahead)));
    const hanging = Math.max(0, ...[...step.terms, step.carried].map((term) => term.lost.length));
    const columns = wide + places + Math.min(TAIL, Math.max(hanging, 3));

    const lane = (term, spoken) => {
      const written = term.whole.padStart(wide, " ") + term.fraction;
      const digits = term.lost || !term.counts ? written : written.replace(/0+$/, "");
      const own = digits.includes("1") ? digits.indexOf("1") : digits.length;
      const lostAt = own < digits.length ? 0 : term.lost.search("1");
      const run = make("span", { className: "run", "aria-hidden": "true" },
        make("span", { className: "lead" }, digits.slice(0, own).replace(/ $/, "0")),
        make("span", { className: "kept" }, digits.slice(own)),
        make("span", { className: "lead" }, term.lost.slice(0, Math.max(lostAt, 0))),
        make("span", { className: "lost" }, term.lost.slice(Math.max(lostAt, 0))));
      run.style.setProperty("--slide", String(term.counts ? term.exponent - step.top : 0));
      return make("div", { className: "lane" }, run, make("span", { className: "spoken" }, spoken));
    };
    const said = (term) => {
      if (!term.counts) return term.value === 0 ? "zero" : "not finite";
      return `${plural(term.bits - term.lostBits, "bit")} kept${term.lostBits ? `, ${term.lostBits} cut off` : ""}`;
    };
    const row = (term, className = "") => make("tr", { className },
      make("th", { scope: "row" }, term.name),
      make("td", { className: "factors" }, term.factors),
      make("td", { className: "number" }, text(term.value, 4)),
      make("td", { className: "number" }, term.counts ? text(term.exponent) : "–"),
      make("td", {}, lane(term, said(term))));
    const heads = make("div", { className: "lane places" },
      make("span", { className: "own" }, "2ᵉ"), make("span", { className: "top" }, power(step.top)),
      make("span", { className: "last" }, aligned ? power(step.last) : ""));
    const body = make("tbody", {}, ...shown.map((term) => row(term)));
    if (rest.length || settings.all) {
      const lost = rest.reduce((n, term) => n + term.lostBits, 0);
      const zeros = rest.every((term) => term.value === 0);
      const words = rest.length ? `${plural(rest.length, "more row")}${zeros ? ", all 0" : lost ? `, of which ${plural(lost, "bit")} fall off` : ""}` : "";
      body.append(make("tr", { className: "more" }, make("td", { colSpan: 5 },
        make("button", { type: "button", className: "plain", onclick: () => change({ rows: settings.all ? "few" : "all" }) },
          settings.all ? "Show fewer rows" : `Show all ${step.terms.length} rows`), words ? ` ${words}` : "")));
    }
    body.append(row(step.carried, "carried"));
    const foot = make("tfoot", {}, make("tr", { className: "total" },
      make("th", { scope: "row" }, "new"), make("td", { className: "factors" }, "sum"),
      make("td", { className: "number" }, text(step.after)), make("td", { className: "number" }, ""),
      make("td", {}, lane(total, `the new sum, ${text(step.after)}`))));
    const head = (text, className = "") => make("th", { scope: "col", className }, text);
    const table = make("table", { className: `lanes stage-${stage}` },
      make("caption", { className: "spoken" }, "The products of this step, their exponents and bits"),
      make("thead", {}, make("tr", {}, head("k"), head("a × b", "factors"), head("value", "number"), head("exponent", "number"),
        make("th", { scope: "col" }, make("span", { className: "spoken" }, "bits"), heads))), body, foot);
    table.style.setProperty("--columns", String(columns));
    table.style.setProperty("--top", String(wide - 1));
    table.style.setProperty("--cut", String(wide + places));
    table.classList.toggle("uncut", !aligned);
    return table;
  }

  /** The sum of what is left as a row: the bits that the output keeps, and those that it does not. */
  function totalRow(core, step) {
    const plain = { name: "", whole: "0", fraction: "", lost: "", bits: 0, lostBits: 0, counts: false, value: step.after };
    if (!Number.isFinite(step.total) || step.total === 0) return plain;
    const exponent = exponentOf(step.total);
    const term = { significand: sums.scaled(step.total, -exponent), exponent };
    const last = Math.max(exponent, core.c_emin) - core.out_bits;
    const { whole, fraction, lost } = sums.bits({ ...term, last: Math.min(last, step.top) }, step.top);
    const digits = fraction + lost, at = step.last === undefined ? digits.length : step.top - step.last;
    const rest = lost.replace(/0+$/, "");
    return { ...plain, whole, fraction: rest ? fraction : digits.slice(0, Math.max(at, 0)), lost: rest, exponent: step.top, counts: true };
  }

  /** The picture of errors: the running sums' against k, drawn in 360 units across; null if there is none. */
  function errorPicture(settings, change) {
    const own = errors(settings, settings.promote);
    const other = settings.promote ? 0 : 128 % settings.core.step === 0 && settings.k > 128 ? 128 : null;
    const curves = [{ ...own, look: "own", every: settings.promote }];
    if (other !== null && settings.numbers !== "cancel") curves.push({ ...errors(settings, other), look: "other", every: other });
    const most = Math.max(...curves.flatMap((curve) => curve.points.map(([, error]) => error)));
    if (own.points.length < 2 || !(most > 0)) return null;
    const unit = niceStep(most / 4), ceiling = unit * Math.ceil((most * 1.08) / unit);
    const marks = Array.from({ length: Math.round(ceiling / unit) + 1 }, (_, i) => Number((i * unit).toPrecision(3)));
    const [W, H, right, top, bottom] = [360, 230, 12, 14, 36];
    const left = 10 + 7 * Math.max(...marks.map((mark) => share(mark).length));
    const x = (k) => left + ((W - left - right) * k) / settings.k;
    const y = (error) => H - bottom - ((H - top - bottom) * error) / ceiling;
    for (const curve of curves) {
      const name = curve.every ? `promoted every ${curve.every}` : "one chain";
      curve.name = `${name}: ${share(curve.points.at(-1)[1])}`;
    }
    const words = `Error of the sum of the first k products, at k = ${settings.k}: ${curves.map(({ name }) => name).join("; ")}.`;
    const svg = draw("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", class: "errors", "aria-label": words });
    for (const mark of marks) {
      svg.append(draw("line", { class: "grid", x1: left, x2: W - right, y1: y(mark), y2: y(mark) }),
        draw("text", { class: "muted", x: left - 6, y: y(mark) + 4, "text-anchor": "end" }, share(mark)));
    }
    for (const part of [0, 0.25, 0.5, 0.75, 1]) {
      const k = Math.round(settings.k * part);
      svg.append(draw("text", { class: "muted", x: x(k), y: H - bottom + 17, "text-anchor": part === 1 ? "end" : "middle" }, String(k)));
    }
    svg.append(draw("text", { class: "muted", x: (left + W - right) / 2, y: H - 3, "text-anchor": "middle" }, "k, products summed"));
    const places = labelPlaces(curves, x, y, { W, right, top, bottom: H - bottom });
    curves.forEach(({ points, look }) => {
      const path = [[0, 0], ...points].map(([k, error]) => `${x(k).toFixed(1)},${y(error).toFixed(1)}`).join(" ");
      svg.append(draw("polyline", { class: `curve ${look}`, points: path }));
    });
    curves.forEach(({ look, name }, i) => svg.append(
      draw("text", { class: `name ${look}`, x: W - right - 4, y: places[i], "text-anchor": "end" }, name)));
    const here = x(Math.min(settings.at * settings.core.step, settings.k));
    svg.append(draw("line", { class: "here", x1: here, x2: here, y1: top, y2: H - bottom }),
      draw("circle", { class: "here", cx: here, cy: H - bottom, r: 5 }));
    const go = (event) => {
      const box = svg.getBoundingClientRect();
      const k = ((((event.clientX - box.left) * W) / box.width - left) / (W - left - right)) * settings.k;
      change({ at: String(Math.min(settings.steps, Math.max(1, Math.ceil(k / settings.core.step)))) });
    };
    svg.addEventListener("click", go);
    return svg;
  }

  /** Where the names of the curves stand: just above or below their ends, clear of all curves and each other. */
  function labelPlaces(curves, x, y, { W, right, top, bottom }) {
    const taken = [];
    const spans = curves.map(({ points, name }) => {
      const from = W - right - 8 - 7.2 * name.length; // where the name begins
      const heights = points.filter(([k]) => x(k) >= from).map(([, error]) => y(error));
      return [Math.min(...heights), Math.max(...heights)];
    });
    return spans.map(([high, low]) => {
      const places = [high - 7, low + 17, high - 24, low + 34, top + 10, bottom - 8];
      const clear = (at) => at > top + 8 && at < bottom - 2 && taken.every((other) => Math.abs(other - at) > 15);
      const free = (at) => clear(at) && spans.every(([above, below]) => at < above - 3 || at - 10 > below);
      const at = places.find(free) ?? places.find(clear) ?? high - 7;
      taken.push(at);
      return at;
    });
  }

  /** 1, 2 or 5 times a power of ten, the first that is not below x. */
  function niceStep(x) {
    const decade = 10 ** Math.floor(Math.log10(x));
    return [1, 2, 5, 10].map((n) => n * decade).find((step) => step >= x * 0.999);
  }

  // --- controls -------------------------------------------------------------------------------------

  /** A slider over a list of choices; its label says which one. */
  function slider(name, hint, choose) {
    const output = make("output");
    let values = [];
    const control = make("input", { type: "range", min: "0", step: "1", oninput: () => choose(values[Number(control.value)]) });
    const field = labelled(name, control, hint);
    field.querySelector("label").append(": ", output);
    const set = (choices, value, text = String) => {
      values = choices;
      control.max = String(choices.length - 1);
      control.value = String(Math.max(0, choices.indexOf(value)));
      control.disabled = choices.length < 2;
      output.textContent = text(value);
      control.setAttribute("aria-valuetext", text(value));
    };
    return { field, set };
  }

  const including = (list, value) => [...new Set([...list, value])].sort((x, y) => x - y);

  fp8sim.parts.dot = {
    title: "A dot product",
    defaults: DEFAULTS,
    mount(root, state, change) {
      let now = settingsOf(state), timer = 0;

      const presets = segments("Worth a look", PRESETS.map(([name], i) => [String(i), name]), (i) => {
        stop();
        change({ ...DEFAULTS, ...PRESETS[i][1] });
      });
      const told = make("p", { className: "told" }), why = make("p", { className: "why" });

      const stages = segments("What the tensor core does", STAGES.map(([name, text], i) => [name, `${i + 1} ${text}`]),
        (stage) => { stop(); change({ stage }); });
      const button = (text, onclick) => make("button", { type: "button", className: "plain", onclick }, text);
      const back = button("Back", () => { stop(); move(-1); }), next = button("Next", () => { stop(); move(1); });
      const play = button("Play", () => (timer ? stop() : start()));
      const where = slider("Step", "", (at) => { stop(); change({ at: String(at) }); });
      const what = make("h2"), seen = make("p", { className: "seen" });
      const lanes = make("div", { className: "scroll", role: "region", tabIndex: 0, "aria-label": "Rows of bits" });
      const picture = make("figure", { className: "picture" });

      const core = select(Object.keys(cores).map((name) => [name, name]), (name) =>
        change({ core: name, format: "", bits: "", length: "", output: "", at: "" }));
      const format = select([], (name) => change({ format: name }));
      const output = select([], (name) => change({ output: name === now.named.output ? "" : name }));
      const numbers = select(NUMBERS, (name) => change({ numbers: name, at: "" }));
      const set = (name) => (value) => change({ [name]: String(value), at: "" });
      const bits = slider("Places kept", "Below the first place of the largest exponent; what is further right falls off.", set("bits"));
      const length = slider("Products in a step", "So many are added in one go.", set("length"));
      const promote = slider("Promotion", "After so many products the chain of steps ends: its sum is added to one in FP32, and a new chain starts from 0.", (value) => change({ promote: value ? String(value) : "none", at: "" }));
      const count = slider("Products, k", "The length of the dot product.", set("k"));
      const again = button("Other numbers", () => change({ seed: String((now.seed % 999) + 1) }));
      const rule = make("p", { className: "hint" });

      /** Go on by a stage, or back; after the last stage to the next step. */
      function move(by) {
        const order = STAGES.map(([name]) => name), stage = order.indexOf(now.stage) + by;
        const at = now.at + (stage < 0 ? -1 : stage === order.length ? 1 : 0);
        if (at < 1 || at > now.steps) return false;
        change({ at: String(at), stage: order[(stage + order.length) % order.length] });
        return true;
      }

      /** One stage after another in the first step that is shown, then step after step. */
      function start() {
        if (now.at === now.steps && now.stage !== "products") change({ at: "1", stage: "products" });
        let stagewise = true;
        const tick = () => {
          if (!root.isConnected || root.hidden) return stop();
          if (now.stage === "add") stagewise = false;
          const moved = stagewise ? move(1) : now.at < now.steps && (change({ at: String(now.at + 1) }), true);
          if (!moved) return stop();
          timer = setTimeout(tick, stagewise ? 1500 : 350);
        };
        timer = setTimeout(tick, 900);
        play.textContent = "Pause";
      }

      function stop() {
        clearTimeout(timer);
        timer = 0;
        play.textContent = "Play";
      }

      root.append(
        make("p", { className: "hint intro" }, "A dot product multiplies numbers pair by pair and adds the products. " +
          "A tensor core adds some of them at a time, in an adder of few bits; what does not fit falls off."),
        make("div", { className: "tools dot-tools apart" }, presets.element), told, why,
        make("div", { className: "dot" },
          make("div", { className: "dot-step" }, what,
            make("div", { className: "tools dot-tools" }, stages.element,
              make("div", { className: "buttons" }, back, next, play)),
            make("div", { className: "what-if" }, where.field), seen, lanes),
          make("div", { className: "dot-sum" }, make("h2", {}, "How the error grows with k"), picture)),
        make("h2", { className: "what-if" }, "What if?"),
        make("div", { className: "sliders" }, bits.field, promote.field, length.field, count.field,
          labelled("Tensor core", core, "A GPU’s unit that multiplies matrices. Each generation sums in its own way; Hopper is that of the H100."),
          labelled("Register", output, "What is kept of the sum between two steps."),
          labelled("Format of the numbers", format),
          make("div", {}, labelled("Numbers", numbers), again)),
        rule);

      let drawn = "";
      return (given) => {
        now = settingsOf(given);
        const found = chain(now), own = errors(now, now.promote), step = takeApart(now);
        const preset = PRESETS.findIndex(([, wanted]) => alike(settingsOf({ ...DEFAULTS, ...wanted }), now));
        presets.press(String(preset));
        told.textContent = unbroken(verdict(found));
        why.textContent = [tendency(own), preset < 0 ? "" : PRESETS[preset][2](now)].filter(Boolean).join(" ");
        stages.press(now.stage);
        where.set(Array.from({ length: now.steps }, (_, i) => i + 1), now.at, (at) => `${at} of ${now.steps}`);
        what.textContent = `Products ${step.first} to ${step.stop - 1} on ${now.named.name}${now.changed ? ", changed" : ""}`;
        seen.textContent = unbroken(caption(now, step));
        back.disabled = now.at === 1 && now.stage === "products";
        next.disabled = now.at === now.steps && now.stage === "add";

        // The rows stay where only the stage changes, so that one sees them slide.
        const key = JSON.stringify([dataKey(now), coreKey(now), now.promote, now.at, now.all]);
        if (key !== drawn || !lanes.firstChild) lanes.replaceChildren(laneTable(now, step, change));
        else lanes.firstChild.className = lanes.firstChild.className.replace(/stage-\w+/, `stage-${now.stage}`);
        drawn = key;

        const svg = errorPicture(now, change);
        const of = own.pairs > 1 ? `Root mean square over ${own.pairs} dot products like this one` : "Of this dot product";
        picture.replaceChildren(...(svg ? [svg, make("figcaption", { className: "hint" },
          `${of}, against the exact sums of the same numbers. Tap the picture to go to a step.`)]
          : [make("p", { className: "hint" }, now.steps < 2 ? "All of it is one step: there is nothing to draw."
            : "Every sum on the way is exact: there is nothing to draw.")]));

        core.value = now.named.name;
        format.replaceChildren(...now.named.inputs.map((name) => make("option", { value: name }, name)));
        format.value = now.fmt.name;
        format.disabled = now.named.inputs.length < 2;
        const registers = now.named.law === "truncated" ? Object.keys(outputs).filter((name) => name !== "fp32-rne") : [now.named.output];
        output.replaceChildren(...registers.map((name) => make("option", { value: name }, registerText(name))));
        output.value = now.core.output;
        output.disabled = registers.length < 2;
        numbers.value = now.numbers;
        const widths = now.named.fraction_bits ? Array.from({ length: now.most }, (_, i) => i + 1) : [0];
        bits.set(widths, now.core.fraction_bits, (n) => (n ? String(n) : "all"));
        length.set(now.lengths, now.core.step);
        const intervals = INTERVALS.filter((n) => n % now.core.step === 0 && n < now.k);
        promote.set([...including(intervals, now.promote || now.core.step).filter((n) => n), 0], now.promote, (n) => (n ? `every ${n}` : "none"));
        count.set(including(COUNTS, now.k), now.k);
        rule.textContent = `${now.named.name}: ${laws[now.named.law]}.`;
        if (!timer) say(`${told.textContent} ${seen.textContent}`);
      };
    },
  };

  /** What the accumulator between two steps holds, in words. */
  function registerText(name) {
    const plain = { "fp32-rz": "FP32", "fp32-rne": "FP32", "fp16-rne": "FP16" }[name];
    return `${plain ?? "shortened FP32"}: ${outputs[name]} places`;
  }
})();
