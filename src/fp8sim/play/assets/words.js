/* What is said of a number: how its bits read, and why it became what it became. */
(() => {
  "use strict";

  const { show, short, percent } = fp8sim.page;
  const { exponentOf, isNegative, powerOfTwo, roundMagnitude } = fp8sim.arithmetic;

  /** What a format is called in a sentence. */
  const title = (name) => name.toUpperCase();

  /** The bits of a code by field: [[name, bits], ...], empty fields left out. */
  function fields(code, fmt) {
    const bits = code.toString(2).padStart(fmt.bits, "0");
    if (fmt.twos_complement) return [["mantissa", bits]];
    const start = fmt.signed ? 1 : 0, end = start + fmt.exponent_bits;
    const cut = [["sign", bits.slice(0, start)], ["exponent", bits.slice(start, end)], ["mantissa", bits.slice(end)]];
    return cut.filter(([, text]) => text);
  }

  /** The digits of a code: 0x2a. */
  function hex(code, fmt) {
    return `0x${code.toString(16).padStart(Math.ceil(fmt.bits / 4), "0")}`;
  }

  /** A value as a product: {sign, significand, exponent, subnormal}; null of zero and what is not finite. */
  function product(value, fmt) {
    const magnitude = Math.abs(value);
    if (!Number.isFinite(value) || magnitude === 0) return null;
    const exponent = Math.max(exponentOf(magnitude), fmt.emin);
    return {
      sign: isNegative(value) ? "-" : "+",
      significand: magnitude / powerOfTwo(exponent),
      exponent,
      subnormal: magnitude < fmt.smallest_normal,
    };
  }

  /** What became of a number, in one word. */
  function fate(x, value, fmt, rounding, draw) {
    if (value === null) return "refused";
    if (Object.is(x, value) || x === value) return "exact";
    if (Number.isNaN(x) || (!fmt.signed && !(x > 0))) return "NaN";
    if (!Number.isFinite(x) || roundMagnitude(x, fmt, rounding, draw) > fmt.max) {
      return Number.isFinite(value) ? "saturated" : "overflowed";
    }
    return value === 0 ? "flushed to 0" : "rounded";
  }

  /** The relative error, signed, in words. */
  function error(x, value) {
    if (!Number.isFinite(x) || !Number.isFinite(value ?? NaN)) return "";
    if (x === value) return "exact";
    if (x === 0) return `${short(value, 3)} too large`;
    const relative = (value - x) / Math.abs(x);
    return `${percent(Math.abs(relative))} too ${Math.abs(value) > Math.abs(x) ? "large" : "small"}`;
  }

  /** The same for a table: of the number's magnitude, with the sign of what was added. */
  function signedError(x, value) {
    if (!Number.isFinite(x) || !Number.isFinite(value ?? NaN)) return "";
    if (x === value) return "exact";
    return x === 0 ? short(value, 3) : `${value > x ? "+" : "\u2212"}${percent(Math.abs((value - x) / x))}`;
  }

  /** Why a number became what it became, in a sentence or two. */
  function explain({ x, value, fmt, rounding, overflow, draw, around }) {
    const name = title(fmt.name), result = show(value ?? NaN);
    if (value === null) return Number.isNaN(x) ? `${name} has no NaN.` : `It overflows, and ${name} has neither infinity nor NaN.`;
    if (Number.isNaN(x)) return "NaN stays NaN.";
    if (Number.isNaN(value) && !fmt.signed && !(x > 0)) {
      return `${name} has ${fmt.zero ? "no" : "neither zero nor"} negative numbers: the result is NaN.`;
    }
    if (!Number.isFinite(x)) {
      if (overflow === "saturate") return `Infinity saturates at the largest finite value and becomes ${result}.`;
      return fmt.has_inf ? "Infinity stays infinity." : `${name} has no infinity: it becomes ${result}.`;
    }
    if (x === value) return `A value of ${name}: nothing is lost.`;
    if (roundMagnitude(x, fmt, rounding, draw) > fmt.max) {
      const words = overflow === "saturate" ? "saturates at"
        : Number.isFinite(value) ? `overflows, and ${rounding} stops at` : "overflows to";
      return `Beyond the largest value ${show(fmt.max)} even after rounding: it ${words} ${result}.`;
    }
    if (rounding === "stochastic") return explainChance(x, value, around);
    if (!rounding.startsWith("nearest")) {
      return `Rounded ${rounding.replace("-", " ")}, to ${fp8sim.data.roundings[rounding]}: it becomes ${result}.`;
    }
    if (around.turn === null) return `The smallest value of ${name} is ${result}: it has no zero.`;
    if (around.name === "flush point") {
      const place = value === 0 ? "short of" : "at or beyond";
      return `${name} has no subnormals, and it lies ${place} the flush point ${show(around.turn)}: it becomes ${result}.`;
    }
    if (x === around.turn) {
      const tie = rounding === "nearest-even" ? "the one whose last bit is 0" : "the one further from zero";
      return `A tie: it lies exactly on the ${around.name} ${show(around.turn)}, so it goes to ${tie}, ${result}.`;
    }
    const nearer = around.upper === null || around.lower === null ? "the largest finite value" : "the nearer neighbour";
    return `It lies ${x > around.turn ? "above" : "below"} the ${around.name} ${show(around.turn)}, ` +
      `so it goes to ${nearer}, ${result}.`;
  }

  function explainChance(x, value, { lower, upper }) {
    if (lower === null || upper === null) return `By chance it becomes ${show(value)}.`;
    const up = (x - lower) / (upper - lower);
    return `It goes up to ${show(upper)} with a chance of ${percent(up)}, down to ${show(lower)} with ${percent(1 - up)}; ` +
      `with this random number it became ${show(value)}. On average nothing is lost.`;
  }

  fp8sim.words = { title, fields, hex, product, fate, error, signedError, explain };
})();
