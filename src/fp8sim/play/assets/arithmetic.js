/* Rounding to a format, its codes, and blocks under shared scales: exact, in float64.
 *
 * The same steps as fp8sim's reference/rounding.py, codes.py, scales.py and four_over_six.py, for readers of
 * those, and compared with them bit for bit. A format is the data of a fp8sim.FloatFormat; nothing about any
 * one is written here. Every function takes a format by name or as that data.
 */
(() => {
  "use strict";

  const { formats, scale_formats, four_over_six_denominator } = fp8sim.data;
  const float64 = new DataView(new ArrayBuffer(8));

  /** 2^n, exact: 0 below 2^-1074 and Infinity above 2^1023. */
  function powerOfTwo(n) {
    if (n > 1023) return Infinity;
    if (n < -1074) return 0;
    if (n < -1022) return Number.MIN_VALUE * powerOfTwo(n + 1074);
    float64.setUint32(0, (n + 1023) << 20);
    float64.setUint32(4, 0);
    return float64.getFloat64(0);
  }

  /** floor(log2 x), exact for finite x > 0, subnormals too; -1 for 0, as numpy.frexp gives. */
  function exponentOf(x) {
    if (x === 0) return -1;
    float64.setFloat64(0, x);
    const field = (float64.getUint32(0) >>> 20) & 0x7ff;
    return field === 0 ? exponentOf(x * powerOfTwo(54)) - 54 : field - 1023;
  }

  const isNegative = (x) => x < 0 || Object.is(x, -0);
  const find = (format) => (typeof format === "string" ? formats[format] : format);

  /**
   * Round the magnitude of a finite number as if the format had no largest exponent: what overflows is decided
   * after that. `draw`, from 0 to 1, is the random number of "stochastic".
   *
   * 0.3 in E4M3: the step there is 2^-2 / 8 = 0.03125, 9.6 steps, so 9 below and 10 above; to nearest 0.3125.
   */
  function roundMagnitude(x, format, rounding = "nearest-even", draw = 0.5) {
    const fmt = find(format), magnitude = Math.abs(x);
    const exponent = Math.max(magnitude > 0 ? exponentOf(magnitude) : 0, fmt.emin);
    const step = powerOfTwo(exponent - fmt.mantissa_bits); // distance between neighbours around x
    const steps = Math.floor(magnitude / step);
    const below = steps * step;
    const rest = magnitude - below; // exact, and 0 <= rest < step
    const up = {
      "nearest-even": rest > step / 2 || (rest === step / 2 && steps % 2 === 1),
      "nearest-away": rest >= step / 2,
      "toward-zero": false,
      "toward-positive": rest > 0 && !isNegative(x),
      "toward-negative": rest > 0 && isNegative(x),
      stochastic: draw * step < rest,
    }[rounding];
    const rounded = up ? below + step : below;
    if (!fmt.zero) return Math.max(rounded, fmt.smallest_normal); // no zero to round to
    return fmt.subnormals || rounded >= fmt.smallest_normal ? rounded : 0;
  }

  /** Apply the overflow policy to a rounded magnitude. */
  function limit(rounded, x, fmt, rounding, overflow) {
    if (!(rounded > fmt.max)) return rounded;
    if (overflow === "saturate") return fmt.max;
    // IEEE 754-2019 7.4: a finite number overflows only in the direction it is rounded to.
    const inward =
      rounding === "toward-zero" ||
      (rounding === "toward-positive" && isNegative(x)) ||
      (rounding === "toward-negative" && !isNegative(x));
    if (inward && Number.isFinite(x)) return fmt.max;
    return fmt.has_inf ? Infinity : NaN;
  }

  /**
   * Round a number to a value of a format: what fp8sim.round_to gives, or null where that refuses: where the
   * result would be NaN and the format has none.
   */
  function round(x, format, rounding = "nearest-even", overflow = null, draw = 0.5) {
    const fmt = find(format);
    let magnitude = Number.isFinite(x) ? roundMagnitude(x, fmt, rounding, draw) : Math.abs(x);
    magnitude = limit(magnitude, x, fmt, rounding, overflow ?? fmt.overflow);
    if (!fmt.signed && (x < 0 || (x === 0 && !fmt.zero))) magnitude = NaN; // what has no code
    if (Number.isNaN(magnitude)) return fmt.has_nan ? NaN : null;
    const plain = !isNegative(x) || !fmt.signed || (magnitude === 0 && !fmt.has_negative_zero);
    return plain ? magnitude : -magnitude;
  }

  /**
   * The code of a value of the format: how many steps it is from zero, and the sign bit. `negative` is the sign of
   * a NaN, which JavaScript does not see.
   */
  function codeOf(value, format, negative = isNegative(value)) {
    const fmt = find(format), magnitude = Math.abs(value);
    const sign = fmt.signed && negative ? 2 ** (fmt.bits - 1) : 0;
    if (Number.isNaN(value)) return fmt.nan_code + (fmt.specials === "fnuz" ? 0 : sign);
    if (magnitude === Infinity) return sign + fmt.infinity_code;
    const exponent = Math.max(magnitude > 0 ? exponentOf(magnitude) : fmt.emin, fmt.emin);
    const significand = magnitude * powerOfTwo(fmt.mantissa_bits - exponent);
    const binades = exponent - fmt.emin - (fmt.zero ? 0 : 1); // without zero, none below the first
    const code = binades * 2 ** fmt.mantissa_bits + significand;
    if (fmt.twos_complement) return isNegative(value) ? (2 ** fmt.bits - code) % 2 ** fmt.bits : code;
    return sign + code;
  }

  /** The code a number gets, what fp8sim.encode gives: an integer, or null where that refuses. */
  function encode(x, format, rounding, overflow, draw) {
    const value = round(x, format, rounding, overflow, draw);
    return value === null ? null : codeOf(value, format, isNegative(Number.isNaN(value) ? x : value));
  }

  /** The value of a code, what fp8sim.decode gives. */
  function decode(code, format) {
    const fmt = find(format);
    if (fmt.twos_complement) {
      return (code - (code >= 2 ** (fmt.bits - 1) ? 2 ** fmt.bits : 0)) * fmt.smallest_subnormal;
    }
    const negative = fmt.signed && code >= 2 ** (fmt.bits - 1);
    const unsigned = negative ? code - 2 ** (fmt.bits - 1) : code;
    const size = 2 ** fmt.mantissa_bits;
    const field = Math.floor(unsigned / size), mantissa = unsigned % size;
    const top = field === 2 ** fmt.exponent_bits - 1;
    if (fmt.specials === "fnuz" && code === fmt.nan_code) return NaN;
    if (fmt.specials === "nan-only" && unsigned === fmt.nan_code) return NaN;
    if (fmt.specials === "ieee" && top) return mantissa ? NaN : negative ? -Infinity : Infinity;
    const normal = field > 0 || !fmt.zero;
    const exponent = (normal ? field - (fmt.zero ? 1 : 0) : 0) + fmt.emin;
    let value = (mantissa + (normal ? size : 0)) * powerOfTwo(exponent - fmt.mantissa_bits);
    if (!normal && !fmt.subnormals) value = 0;
    return negative ? -value : value;
  }

  /**
   * The values of a format on both sides of a finite number, and where rounding to nearest turns from one to the
   * other.
   *
   * @returns {{lower, upper, turn, name}} null where there is none; `name` is what the turn is called. Both are
   *   the number itself where that is a value.
   */
  function neighbours(x, format) {
    const fmt = find(format), magnitude = Math.abs(x);
    const step = stepAt(magnitude, fmt);
    let below = Math.floor(magnitude / step) * step;
    let above = below === magnitude ? below : below + step;
    let [turn, name] = [below === above ? null : below + step / 2, "midpoint"];
    if (magnitude > fmt.max) {
      [turn, name] = [fmt.max + stepAt(fmt.max, fmt) / 2, "overflow point"];
      [below, above] = [fmt.max, null];
    } else if (magnitude < fmt.smallest_normal && !fmt.subnormals && !(fmt.zero && magnitude === 0)) {
      [turn, name] = [fmt.zero ? fmt.smallest_normal - step / 2 : null, "flush point"];
      [below, above] = [fmt.zero ? 0 : null, fmt.smallest_normal];
    }
    if (!isNegative(x)) return { lower: below, upper: above, turn, name };
    const flip = (value) => (value === null ? null : -value);
    return { lower: flip(above), upper: flip(below), turn: flip(turn), name };
  }

  /** How far apart the values around a magnitude are. */
  function stepAt(magnitude, format) {
    const fmt = find(format);
    const exponent = magnitude > 0 ? exponentOf(magnitude) : fmt.emin;
    return powerOfTwo(Math.min(Math.max(exponent, fmt.emin), 1023) - fmt.mantissa_bits);
  }

  /** The next value of a format above (direction 1) or below (-1) a finite number; null where there is none. */
  function nextValue(x, direction, format) {
    const fmt = find(format), { lower, upper } = neighbours(x, fmt);
    const top = (value) => (value === null || Math.abs(value) > fmt.max ? null : value);
    if (!fmt.signed && x <= 0) return direction > 0 ? fmt.smallest_subnormal : null;
    let next = direction > 0 ? upper : lower;
    if (lower === upper) {
      if (x === 0) next = direction * fmt.smallest_subnormal;
      else {
        const outward = direction > 0 === x > 0, code = codeOf(Math.abs(x), fmt) + (outward ? 1 : -1);
        if (code < 0 || code > fmt.top_code) return null;
        const magnitude = decode(code, fmt);
        next = x < 0 ? -magnitude : magnitude;
      }
    }
    return !fmt.signed && next !== null && (next < 0 || (next === 0 && !fmt.zero)) ? null : top(next);
  }

  /* --- blocks --- */

  /** The scale of a group from its largest magnitude, by a power-of-two rule, in the range of E8M0. */
  function powerOfTwoScale(amax, fmt, rule) {
    if (amax === 0) return powerOfTwo(-127);
    const significand = (x) => x / powerOfTwo(exponentOf(x)); // from 1 to 2
    let exponent = exponentOf(amax) - fmt.emax;
    if (rule === "ceil" && significand(amax) > significand(fmt.max)) exponent += 1;
    if (rule === "even") {
      // amax to the mantissa bits of an element first: 1.96 becomes 2 with three of them
      const bits = { mantissa_bits: fmt.mantissa_bits, emin: 0, zero: true, subnormals: true };
      if (roundMagnitude(significand(amax), bits) === 2) exponent += 1;
    }
    if (exponent > 127) throw new RangeError("the largest number needs a scale above 2^127, the largest of E8M0");
    return powerOfTwo(Math.max(exponent, -127));
  }

  /** A scale in FP32: 1 for a group of zeros, and never zero or infinite. */
  function positiveFp32(scale, amax) {
    const rounded = Math.fround(scale);
    refuseInfinite(rounded);
    return amax > 0 ? Math.max(rounded, powerOfTwo(-149)) : 1;
  }

  function refuseInfinite(scale) {
    if (scale === Infinity) throw new RangeError("the largest number needs a scale beyond FP32");
  }

  /**
   * E4M3 scales under one FP32 scale of all of them, so that the largest becomes `bound`; each step in the
   * caller's precision (`keep`: float64 as it is, or Math.fround).
   */
  function nestedScales(amaxes, fmt, { bound, stretch = 1, keep = (x) => x }) {
    const top = Math.max(...amaxes);
    const tensor = positiveFp32(keep(top / (fmt.max * bound)), top);
    const inner = amaxes.map((amax) => {
      const quotient = keep(keep(keep(amax / fmt.max) / tensor) * stretch);
      return round(quotient, "e4m3", "nearest-even", "saturate");
    });
    const scales = inner.map((scale) => Math.fround(scale * tensor));
    scales.forEach(refuseInfinite);
    return { scales, inner, top };
  }

  /** Four over six: each group takes the scale that maps its largest to 6 or to 4, whichever errs less. */
  function fourOverSix(groups, amaxes, fmt, rule) {
    const largest = four_over_six_denominator / fmt.max; // of the scales: half of it is left for 1.5 times one
    const options = { bound: largest, keep: Math.fround };
    const [six, four] = [1, 1.5].map((stretch) => nestedScales(amaxes, fmt, { ...options, stretch }));
    const error = ({ scales, inner, top }, i) =>
      groups[i].reduce((total, x) => {
        const element = round(Math.fround(divide(x, scales[i])), fmt, "nearest-even", "saturate");
        const product = Math.fround(Math.fround(element * inner[i]) * Math.fround(top));
        const miss = Math.abs(Math.fround(Math.fround(product / four_over_six_denominator) - x));
        return Math.fround(total + (rule === "4over6-mse" ? Math.fround(miss * miss) : miss));
      }, 0);
    return amaxes.map((_, i) => (error(four, i) < error(six, i) ? four : six).scales[i]);
  }

  const divide = (x, scale) => (scale === 0 ? (isNegative(x) ? -0 : 0) : x / scale);

  function pickScales(groups, amaxes, fmt, { scaleFormat, rule }) {
    if (rule.startsWith("4over6")) return fourOverSix(groups, amaxes, fmt, rule);
    if (scaleFormat === "e4m3") return nestedScales(amaxes, fmt, { bound: formats.e4m3.max }).scales;
    return amaxes.map((amax) =>
      rule === "amax" ? positiveFp32(amax / fmt.max, amax) : powerOfTwoScale(amax, fmt, rule),
    );
  }

  /** Which group each element of an array of rows is in, by a granularity: one name, or "1xC". */
  function groupsOf(count, columns, granularity) {
    const block = /^1x([1-9]\d*)$/.exec(granularity);
    const across = granularity === "tensor" ? count : block ? Math.min(Number(block[1]), columns) : columns;
    const perRow = Math.ceil(columns / across);
    return Array.from({ length: count }, (_, i) =>
      granularity === "tensor" ? 0 : Math.floor(i / columns) * perRow + Math.floor((i % columns) / across),
    );
  }

  /**
   * Quantise finite numbers, row after row: what fp8sim.quantize gives for a float64 array.
   *
   * @param options {format, granularity: "tensor" | "row" | "1xC", columns: numbers in a row (all by default),
   *   scaleFormat: "fp32" | "e8m0" | "e4m3", rule}
   * @returns {{elements, scales, group, saturated, flushed}} elements: {x, scale, scaled, code, element, value,
   *   saturated, flushed}; scales: one for each group; group: which one each element is in. A RangeError says
   *   what cannot be scaled.
   */
  function quantize(values, options) {
    const { format = "e4m3", granularity = "tensor", scaleFormat = "fp32" } = options;
    const fmt = find(format), columns = options.columns || values.length;
    const rule = options.rule || scale_formats[scaleFormat][0];
    const fp32 = rule.startsWith("4over6"); // all of whose arithmetic is in FP32
    if (fp32 && !(fmt.name === "e2m1" && granularity === "1x16")) {
      throw new RangeError(`${rule} is a rule for E2M1 in groups of 1x16`);
    }
    if (!values.every(Number.isFinite)) throw new RangeError("NaN and infinity have no scale");
    const keep = fp32 ? Math.fround : (x) => x;
    const taken = values.map(keep);
    if (!taken.every(Number.isFinite)) throw new RangeError("a number is beyond FP32, in which this rule is done");
    const group = groupsOf(values.length, columns, granularity);
    const groups = [];
    taken.forEach((x, i) => (groups[group[i]] ??= []).push(x));
    const amaxes = groups.map((members) => members.reduce((most, x) => Math.max(most, Math.abs(x)), 0));
    const scales = pickScales(groups, amaxes, fmt, { scaleFormat, rule });
    const elements = taken.map((x, i) => {
      const scale = scales[group[i]], scaled = keep(divide(x, scale));
      const element = round(scaled, fmt, "nearest-even", "saturate");
      const beyond = Number.isFinite(scaled) && roundMagnitude(scaled, fmt) > fmt.max;
      return {
        x: values[i], scale, scaled, element, code: codeOf(element, fmt), value: element * scale,
        saturated: beyond, flushed: x !== 0 && element === 0,
      };
    });
    const count = (what) => elements.filter((element) => element[what]).length;
    return { elements, scales, group, saturated: count("saturated"), flushed: count("flushed") };
  }

  fp8sim.arithmetic = {
    powerOfTwo, exponentOf, isNegative, roundMagnitude, round, codeOf, encode, decode, neighbours, stepAt, nextValue,
    groupsOf, quantize,
  };
})();
