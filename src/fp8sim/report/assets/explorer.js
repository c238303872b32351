/* The explorer's controls and what they show; the arithmetic is above. */

const { formats, roundings, scale_formats, scale_rules } = JSON.parse(
  document.getElementById("report-data").textContent,
).explorer;

const FIRST_CHOICE = ["e4m3", "e5m2", "bf16", "fp16"];
const byId = (id) => document.getElementById(id);

/** An element with properties and children; text stays text, whatever it holds. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The same for a drawing. */
function draw(tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

/** A float64 in the fewest digits that mean it. */
function show(x) {
  if (Object.is(x, -0)) return "-0";
  return Number.isFinite(x) ? String(x) : Number.isNaN(x) ? "NaN" : x > 0 ? "infinity" : "-infinity";
}

/** The same to six digits, for tables. */
function short(x) {
  return Number.isFinite(x) ? show(Number(x.toPrecision(6))) : show(x);
}

function percent(share) {
  const rounded = Number((100 * share).toPrecision(3));
  return share === 0 ? "0" : `${rounded < 1e-3 ? rounded.toExponential() : rounded} %`;
}

/** The bits of a code: its sign, exponent and mantissa fields. */
function fields(code, fmt) {
  const bits = code.toString(2).padStart(fmt.bits, "0");
  const start = fmt.signed ? 1 : 0;
  return [bits.slice(0, start), bits.slice(start, start + fmt.exponent_bits), bits.slice(start + fmt.exponent_bits)];
}

/** The value that fields stand for, as a product: "+1.25 × 2^-2". */
function reading(rounded, fmt) {
  const x = rounded.magnitude;
  if (!Number.isFinite(x)) return show(signedValue(rounded));
  const sign = rounded.negative ? "-" : "+";
  if (x === 0) return `${sign}0`;
  const exponent = Math.max(exponentOf(x), fmt.emin);
  const kind = x < fmt.smallest_normal ? " (subnormal)" : "";
  return `${sign}${show(x / powerOfTwo(exponent))} × 2^${exponent}${kind}`;
}

/**
 * The neighbours of a finite number in a format, and where rounding turns from one to the other.
 *
 * @returns {{lower, upper, turn, name}} signed, null where there is none; name is what turn is called.
 */
function neighbours(number, fmt) {
  let { below, above, step } = roundMagnitude(number, fmt, "nearest-even");
  let [turn, name] = [below === above ? null : below + step / 2, "midpoint"];
  if (number.magnitude > fmt.max) {
    [turn, name] = [fmt.max + powerOfTwo(fmt.emax - fmt.mantissa_bits) / 2, "overflow point"];
    [below, above] = [fmt.max, null];
  } else if (number.magnitude < fmt.smallest_normal && !fmt.subnormals) {
    [turn, name] = [fmt.zero ? fmt.smallest_normal - step / 2 : null, "flush point"];
    [below, above] = [fmt.zero ? 0 : null, fmt.smallest_normal];
  }
  if (!number.negative) return { lower: below, upper: above, turn, name };
  const flip = (x) => (x === null ? null : -x);
  return { lower: flip(above), upper: flip(below), turn: flip(turn), name };
}

/** Why a number became what it became, in a sentence or two. */
function explain(number, rounded, around, fmt, rounding, overflow) {
  const x = signedValue(number);
  const result = show(signedValue(rounded));
  if (Number.isNaN(x)) return "NaN stays NaN.";
  if (Number.isNaN(rounded.magnitude) && !fmt.signed && !(x > 0)) {
    return `${fmt.name} has ${fmt.zero ? "no" : "neither zero nor"} negative numbers: the result is NaN.`;
  }
  if (!Number.isFinite(x)) {
    if (overflow === "saturate") return `Infinity saturates at the largest finite value and becomes ${result}.`;
    return fmt.has_inf ? "Infinity stays infinity." : `${fmt.name} has no infinity: it becomes ${result}.`;
  }
  if (number.magnitude === rounded.magnitude) return `A value of ${fmt.name}: nothing is lost.`;
  if (roundMagnitude(number, fmt, rounding).rounded > fmt.max) {
    const words = overflow === "saturate" ? "saturates at" : Number.isFinite(rounded.magnitude)
      ? `overflows, and ${rounding} stops at` : "overflows to";
    return `Beyond the largest value ${show(fmt.max)} even after rounding: it ${words} ${result}.`;
  }
  if (!rounding.startsWith("nearest")) return `${rounding}, ${roundings[rounding]}: it becomes ${result}.`;
  if (around.turn === null) return `The smallest value of ${fmt.name} is ${result}: it has no zero.`;
  if (around.name === "flush point") {
    const place = rounded.magnitude === 0 ? "short of" : "at or beyond";
    return `${fmt.name} has no subnormals, and it lies ${place} the flush point ${show(around.turn)}: it becomes ${result}.`;
  }
  const side = x === around.turn ? "exactly on" : x > around.turn ? "above" : "below";
  const nearer = around.upper === null ? "the largest finite value" : "the nearer neighbour";
  const tie = rounding === "nearest-even" ? "the one whose last bit is 0" : "the one further from zero";
  return `It lies ${side} the ${around.name} ${show(around.turn)}, so it becomes ` +
    `${side === "exactly on" ? tie : nearer}, ${result}.`;
}

/** The bits with their fields told apart by position, colour and name. */
function bitsOf(code, fmt) {
  const names = ["sign", "exponent", "mantissa"];
  const hex = `0x${code.toString(16).padStart(Math.ceil(fmt.bits / 4), "0")}`;
  const groups = fields(code, fmt).map((bits, i) => [bits, names[i]]).filter(([bits]) => bits);
  const spoken = groups.map(([bits, name]) => `${name} ${bits}`).join(", ");
  return make(
    "p",
    { className: "bits" },
    make("span", { className: "spoken" }, `${spoken}, code ${hex}`),
    ...groups.map(([bits, name]) => make("span", { className: name, "aria-hidden": "true", title: name }, bits)),
    make("span", { className: "hex", "aria-hidden": "true" }, hex),
  );
}

/** The number between its neighbours, drawn; the card says the same in words. */
function lineOf(x, around, rounded) {
  const { lower, upper, turn } = around;
  if (lower === null || upper === null || lower === upper) return "";
  const at = (value) => 12 + (216 * (value - lower)) / (upper - lower);
  const svg = draw("svg", { viewBox: "0 0 240 30", class: "between", "aria-hidden": "true" });
  svg.append(draw("line", { x1: 12, x2: 228, y1: 20, y2: 20, class: "grid" }));
  for (const end of [lower, upper]) {
    const taken = end === rounded || (end === 0 && rounded === 0);
    svg.append(draw("circle", { cx: at(end), cy: 20, r: taken ? 6 : 4, class: taken ? "taken" : "end" }));
  }
  if (turn !== null) svg.append(draw("line", { x1: at(turn), x2: at(turn), y1: 13, y2: 27, class: "turn" }));
  svg.append(draw("path", { d: `M${at(x)} 16l-5 -9h10z`, class: "here" }));
  return svg;
}

/** Everything about one number in one format. */
function card(number, name, rounding, policy, scale) {
  const fmt = { ...formats[name], name };
  const overflow = policy === "default" ? fmt.overflow : policy;
  const title = make(
    "h4",
    {},
    name,
    " ",
    make("small", {}, `${fmt.bits} bits: ${fmt.exponent_bits} exponent, ${fmt.mantissa_bits} mantissa; ${overflow}`),
  );
  const article = make("article", { className: "card", "data-format": name }, title);
  const rounded = roundTo(number, fmt, rounding, overflow);
  if (rounded.refused) {
    article.append(make("p", { className: "why" }, `Refused: ${rounded.refused}.`));
    return { article, words: `${name} refuses it` };
  }
  const scaled = signedValue(number);
  const value = signedValue(rounded);
  const result = value * powerOfTwo(scale);
  const x = scaled * powerOfTwo(scale);
  const finite = Number.isFinite(scaled);
  const around = finite ? neighbours(number, fmt) : { lower: null, upper: null, turn: null, name: "midpoint" };
  const or = (v) => (v === null ? "none" : show(v));
  const entries = [
    ["becomes", scale === 0 ? show(value) : `${show(value)} × 2^${scale} = ${show(result)}`],
    ["reads", reading(rounded, fmt)],
    ["lower neighbour", finite ? or(around.lower) : "-"],
    [around.name, around.turn === null ? "-" : show(around.turn)],
    ["upper neighbour", finite ? or(around.upper) : "-"],
    ["relative error", finite && scaled !== 0 && Number.isFinite(value) ? percent(Math.abs((result - x) / x)) : "-"],
  ];
  article.append(
    bitsOf(codeOf(rounded, fmt), fmt),
    lineOf(scaled, around, value),
    make("dl", {}, ...entries.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text)))),
    make("p", { className: "why" }, explain(number, rounded, around, fmt, rounding, overflow)),
  );
  return { article, words: `${name} ${show(result)}` };
}

function chosenFormats() {
  return [...document.querySelectorAll("#formats input:checked")].map((box) => box.value);
}

/** The number typed, divided by the scale; null if it is none. */
function scaledNumber() {
  const number = parseNumber(byId("number").value);
  return number && { ...number, magnitude: number.magnitude / powerOfTwo(Number(byId("scale").value)) };
}

function showNumber() {
  const scale = Number(byId("scale").value);
  byId("scale-value").textContent = scale === 0 ? "1" : `2^${scale} = ${show(powerOfTwo(scale))}`;
  byId("scale").setAttribute("aria-valuetext", `2 to the power ${scale}`);
  const number = scaledNumber();
  byId("number").setAttribute("aria-invalid", String(number === null));
  byId("number-problem").textContent = number ? "" : `“${byId("number").value}” is no number: write it like 0.3`;
  if (!number) {
    byId("cards").replaceChildren();
    byId("number-summary").textContent = "";
    return;
  }
  const names = chosenFormats();
  const cards = names.map((name) => card(number, name, byId("rounding").value, byId("overflow").value, scale));
  byId("cards").replaceChildren(...cards.map((each) => each.article));
  byId("number-summary").textContent = names.length
    ? `${byId("number").value.trim()} becomes ${cards.map((each) => each.words).join("; ")}.`
    : "Choose a format.";
}

/** Put the next value of the first chosen format into the field: up for +1, down for -1. */
function stepNumber(direction) {
  const [name] = chosenFormats();
  const number = scaledNumber();
  if (!name || !number || !Number.isFinite(number.magnitude)) return;
  const fmt = formats[name];
  const { lower, upper } = neighbours(number, fmt);
  let next = direction > 0 ? upper : lower;
  if (next === null) return;
  if (lower === upper) next = nextValue(signedValue(number), direction, fmt);
  if (!(Math.abs(next) <= fmt.max) || (!fmt.signed && (next < 0 || (next === 0 && !fmt.zero)))) return;
  byId("number").value = show(next * powerOfTwo(Number(byId("scale").value)));
  showNumber();
}

/** The value of a format next to one of its values. */
function nextValue(x, direction, fmt) {
  if (x === 0) return direction * fmt.smallest_subnormal;
  const outward = direction > 0 === x > 0;
  const magnitude = Math.abs(x);
  const edge = magnitude === powerOfTwo(exponentOf(magnitude)) && exponentOf(magnitude) > fmt.emin;
  const exponent = Math.max(exponentOf(magnitude), fmt.emin) - (edge && !outward ? 1 : 0);
  let next = magnitude + (outward ? 1 : -1) * powerOfTwo(exponent - fmt.mantissa_bits);
  if (!fmt.subnormals && next < fmt.smallest_normal) next = 0;
  return x < 0 ? -next : next;
}

function blockScaling() {
  const [format, rule] = byId("block-scaling").value.split(" ");
  return format === "none" ? null : { format, rule };
}

function readBlock() {
  const words = byId("block").value.split(/[\s,;]+/).filter((word) => word);
  if (!words.length) throw new RangeError("Write at least one number.");
  if (words.length > 512) throw new RangeError(`At most 512 numbers, not ${words.length}.`);
  return words.map((word) => {
    const number = parseNumber(word);
    if (number === null) throw new RangeError(`“${word}” is no number: write it like 0.3`);
    if (!Number.isFinite(number.magnitude)) throw new RangeError("A block that holds NaN or infinity has no scale.");
    return signedValue(number);
  });
}

function blockRow(element, fmt) {
  const lost = element.saturated ? "saturated" : element.flushed ? "flushed to 0" : "";
  const error = element.x === 0 ? "-" : percent(Math.abs((element.value - element.x) / element.x));
  const cells = [short(element.scale), fields(element.code, fmt).filter((bits) => bits).join(" "),
    short(element.value), error, lost];
  return make("tr", lost ? { className: "lost" } : {},
    make("th", { scope: "row" }, show(element.x)), ...cells.map((text) => make("td", {}, text)));
}

function showBlock() {
  const body = document.querySelector("#block-table tbody");
  body.replaceChildren();
  const scaling = blockScaling();
  byId("block-rule").textContent = scaling ? `Scale: ${scale_rules[scaling.rule]}.` : "Numbers are cast as they are.";
  byId("block-summary").textContent = byId("block-problem").textContent = "";
  try {
    const values = readBlock();
    const fmt = formats[byId("block-format").value];
    const size = Number(byId("block-size").value) || values.length;
    const blocks = quantize(values, fmt, scaling, size, formats);
    const whole = quantize(values, fmt, scaling, values.length, formats);
    body.append(...blocks.elements.map((element) => blockRow(element, fmt)));
    for (let i = size; i < values.length; i += size) body.children[i].classList.add("next-group");
    const words = (result) =>
      `mean relative error ${percent(result.error)}, ` +
      `${result.saturated} saturated, ${result.flushed} flushed to 0`;
    byId("block-summary").textContent =
      size >= values.length ? `One scale for all ${values.length}: ${words(whole)}.`
        : `A scale for every ${size}: ${words(blocks)}. One for all ${values.length}: ${words(whole)}.`;
  } catch (problem) {
    if (!(problem instanceof RangeError)) throw problem;
    byId("block-problem").textContent = problem.message;
  }
}

function fill(id, choices, chosen) {
  byId(id).append(...choices.map(([value, text]) => make("option", { value, selected: value === chosen }, text)));
}

function start() {
  const names = Object.keys(formats);
  const first = FIRST_CHOICE.filter((name) => name in formats);
  byId("formats").append(
    ...names.map((name) =>
      make("label", {}, make("input", { type: "checkbox", value: name, checked: first.includes(name) }), ` ${name}`)),
  );
  fill("rounding", Object.keys(roundings).map((name) => [name, name]), "nearest-even");
  fill("overflow", [["default", "as GPU conversions do"], ["saturate", "saturate"], ["ieee", "ieee"]], "default");
  const elementFormats = names.filter((name) => formats[name].signed && formats[name].zero); // others hold scales
  fill("block-format", elementFormats.map((name) => [name, name]), first[0]);
  const rules = Object.entries(scale_formats).flatMap(([format, list]) =>
    list.map((rule) => [`${format} ${rule}`, `${format}, ${rule}`]));
  fill("block-scaling", [...rules, ["none none", "no scale"]], rules[0][0]);
  fill("block-size", [...[1, 2, 4, 8, 16, 32, 128].map((n) => [String(n), String(n)]), ["0", "all"]], "4");
  for (const id of ["number", "formats", "rounding", "overflow", "scale"]) byId(id).addEventListener("input", showNumber);
  for (const id of ["block", "block-format", "block-scaling", "block-size"]) byId(id).addEventListener("input", showBlock);
  byId("number").addEventListener("keydown", (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!direction) return;
    event.preventDefault();
    stepNumber(direction);
  });
  byId("explorer-body").hidden = false;
  showNumber();
  showBlock();
}

/** For the console: what fp8sim.encode and fp8sim.quantize give. */
window.fp8sim = {
  encode: (text, name, rounding, overflow) => encode(parseNumber(text), formats[name], rounding, overflow),
  quantize: (values, name, scaling, size) => quantize(values, formats[name], scaling, size, formats),
};

start();
