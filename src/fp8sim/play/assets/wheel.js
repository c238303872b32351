/* A wheel of all codes of a format of at most 8 bits: a spoke for each, as long as its value has octaves. */
(() => {
  "use strict";

  const { draw, drag, short, show } = fp8sim.page;
  const { decode } = fp8sim.arithmetic;
  const { hex, title } = fp8sim.words;

  const SIZE = 360, HUB = 62, RIM = 140; // of the drawing, and of the shortest and the longest spoke

  const polar = (turn, radius) => {
    const angle = 2 * Math.PI * turn - Math.PI / 2; // code 0 at the top, clockwise
    return [SIZE / 2 + radius * Math.cos(angle), SIZE / 2 + radius * Math.sin(angle)].map((v) => v.toFixed(2));
  };

  /** A spoke from the hub, over one code's share of the turn. */
  function spoke(code, count, radius, kind) {
    const [from, to] = [code - 0.5, code + 0.5].map((c) => c / count);
    const corners = [polar(from, HUB), polar(from, radius), polar(to, radius), polar(to, HUB)];
    return draw("path", { d: `M${corners.map((corner) => corner.join(" ")).join("L")}z`, class: kind });
  }

  function kindOf(value, fmt) {
    if (Number.isNaN(value)) return "nan";
    if (!Number.isFinite(value)) return "inf";
    if (Math.abs(value) < fmt.smallest_normal) return "subnormal";
    return fp8sim.arithmetic.exponentOf(Math.abs(value)) & 1 ? "odd" : "even"; // of octaves, which take turns
  }

  function radiusOf(value, fmt) {
    if (!Number.isFinite(value)) return RIM;
    if (value === 0) return HUB + 3;
    const octaves = Math.log2(fmt.max / fmt.smallest_subnormal) + 1;
    return HUB + 6 + ((RIM - HUB - 6) * (Math.log2(Math.abs(value) / fmt.smallest_subnormal) + 1)) / octaves;
  }

  /** Codes with a word beside them: where the values begin, end and are one. */
  function landmarks(fmt) {
    const half = 2 ** (fmt.bits - 1), one = fp8sim.arithmetic.encode(1, fmt, "nearest-even", "saturate");
    const codes = [0, one, fmt.top_code];
    if (fmt.signed && !fmt.twos_complement) codes.push(half, half + one, half + fmt.top_code);
    if (fmt.twos_complement) codes.push(half, 2 ** fmt.bits - 1);
    return [...new Set(codes)];
  }

  /** The wheel: {element, update(now)}; `choose` is called with a code. */
  fp8sim.wheel = (choose) => {
    const ring = draw("g", { class: "ring" }), words = draw("g"), mark = draw("g");
    const hub = ["hub-code", "hub-value", "hub-bits"].map((kind, i) =>
      draw("text", { x: SIZE / 2, y: SIZE / 2 - 8 + 20 * i, "text-anchor": "middle", class: kind }));
    const element = draw("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "wheel", role: "slider", tabindex: "0" }, ring, words, mark, ...hub);
    let now = null, drawn = "";

    const codeAt = (event) => {
      const box = element.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
      const turn = Math.atan2(x, -y) / (2 * Math.PI), count = 2 ** now.fmt.bits;
      return (Math.round(turn * count) + count) % count;
    };

    drag(element, {
      hold: true,
      start: (event) => event.target.closest(".ring") !== null,
      move: (event) => choose(codeAt(event)),
    });
    element.addEventListener("keydown", (event) => {
      const count = 2 ** now.fmt.bits, octave = 2 ** now.fmt.mantissa_bits;
      const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: octave, PageDown: -octave }[event.key];
      const to = { Home: 0, End: count - 1 }[event.key] ?? (by === undefined ? null : ((now.code ?? 0) + by + count) % count);
      if (to === null) return;
      event.preventDefault();
      choose(to);
    });

    function paintRing(fmt) {
      const count = 2 ** fmt.bits;
      const all = Array.from({ length: count }, (_, code) => code);
      ring.replaceChildren(
        draw("circle", { cx: SIZE / 2, cy: SIZE / 2, r: (HUB + RIM) / 2, "stroke-width": RIM - HUB, class: "reach" }),
        ...all.map((code) => {
          const value = decode(code, fmt);
          const side = value < 0 || Object.is(value, -0) ? "negative" : "positive";
          return spoke(code, count, radiusOf(value, fmt), `${kindOf(value, fmt)} ${side}`);
        }),
      );
      words.replaceChildren(...landmarks(fmt).map((code) => {
        const [x, y] = polar(code / count, RIM + 9), right = code < count / 2;
        // What is at the top or at the bottom moves aside, away from what is on the other side.
        const aside = Math.abs(x - SIZE / 2) < 12 ? (right ? 8 : -8) : 0;
        const label = short(decode(code, fmt), 4);
        return draw("text", { x: Number(x) + aside, y: Number(y) + 4, "text-anchor": right ? "start" : "end", class: "muted" }, label);
      }));
    }

    /** Draw a code of a format chosen; null where the number has none. */
    function update(next) {
      now = next;
      const { fmt, code } = now, count = 2 ** fmt.bits;
      if (drawn !== fmt.name) paintRing(fmt);
      drawn = fmt.name;
      element.setAttribute("aria-label", `Wheel of the ${count} codes of ${title(fmt.name)}`);
      element.setAttribute("aria-valuemin", "0");
      element.setAttribute("aria-valuemax", String(count - 1));
      element.setAttribute("aria-valuenow", String(code ?? 0));
      const value = code === null ? null : decode(code, fmt);
      element.setAttribute("aria-valuetext", code === null ? "no code" : `${hex(code, fmt)}, ${show(value)}`);
      hub[0].textContent = code === null ? "no code" : hex(code, fmt);
      hub[1].textContent = code === null ? "" : short(value, 7);
      hub[2].textContent = code === null ? "" : code.toString(2).padStart(fmt.bits, "0");
      mark.replaceChildren();
      if (code === null) return;
      const [x1, y1] = polar(code / count, HUB - 2), [x2, y2] = polar(code / count, RIM + 3);
      mark.append(spoke(code, count, Math.max(radiusOf(value, fmt), HUB + 8), "chosen"), draw("line", { x1, y1, x2, y2, class: "hand" }));
    }

    return { element, update };
  };
})();
