/* Rounding to a floating-point format, its codes, and shared scales: exact, in float64.
 *
 * The same steps as fp8sim's rounding.py, codec.py and scaling.py, for readers of those. A format is
 * the data of a fp8sim.FloatFormat (see report.py); nothing about any format is written here.
 * A number comes as {magnitude, negative}, since the sign of a NaN cannot be seen in JavaScript.
 */
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

/** Read "0.3", "-1e-3", "1/3", "2^-9", "-inf" or "nan"; null if it is no number. */
function parseNumber(text) {
  const [, sign, rest] = /^([+-]?)(.*)$/s.exec(text.trim().replace("−", "-").toLowerCase());
  const found = (magnitude) => ({ magnitude, negative: sign === "-" });
  if (/^(inf|infinity|∞)$/.test(rest)) return found(Infinity);
  if (rest === "nan") return found(NaN);
  const power = /^2(?:\^|\*\*)([+-]?\d{1,5})$/.exec(rest);
  if (power) return found(powerOfTwo(Number(power[1])));
  const decimal = "(?:\\d+\\.?\\d*|\\.\\d+)(?:e[+-]?\\d+)?";
  const fraction = new RegExp(`^(${decimal})(?:/(${decimal}))?$`).exec(rest);
  if (!fraction) return null;
  return found(fraction[2] === undefined ? Number(fraction[1]) : Number(fraction[1]) / Number(fraction[2]));
}

/** A float64 as {magnitude, negative}. */
function numberOf(x) {
  return { magnitude: Math.abs(x), negative: x < 0 || Object.is(x, -0) };
}

/** The float64 of {magnitude, negative}. */
function signedValue(number) {
  return number.negative ? -number.magnitude : number.magnitude;
}

/**
 * Round a finite magnitude as if the format had no largest exponent; the overflow policy comes after.
 *
 * @returns {{below, above, step, rounded}} the multiples of the step around it, and the one taken.
 */
function roundMagnitude(number, fmt, rounding) {
  const x = number.magnitude;
  const exponent = Math.max(x > 0 ? exponentOf(x) : 0, fmt.emin);
  const step = powerOfTwo(exponent - fmt.mantissa_bits); // distance between neighbours around x
  const steps = Math.floor(x / step);
  const below = steps * step;
  const rest = x - below; // exact, and 0 <= rest < step
  const up = {
    "nearest-even": rest > step / 2 || (rest === step / 2 && steps % 2 === 1),
    "nearest-away": rest >= step / 2,
    "toward-zero": false,
    "toward-positive": rest > 0 && !number.negative,
    "toward-negative": rest > 0 && number.negative,
  }[rounding];
  let rounded = up ? below + step : below;
  if (!fmt.zero) rounded = Math.max(rounded, fmt.smallest_normal); // no zero to round to
  else if (!fmt.subnormals && rounded < fmt.smallest_normal) rounded = 0;
  return { below, above: rest > 0 ? below + step : below, step, rounded };
}

/** Apply the overflow policy to a rounded magnitude beyond the largest finite value. */
function limit(rounded, number, fmt, rounding, overflow) {
  if (!(rounded > fmt.max)) return rounded;
  if (overflow === "saturate") return fmt.max;
  // IEEE 754-2019 7.4: a finite number overflows only in the direction it is rounded to.
  const inward =
    rounding === "toward-zero" ||
    (rounding === "toward-positive" && number.negative) ||
    (rounding === "toward-negative" && !number.negative);
  if (inward && Number.isFinite(number.magnitude)) return fmt.max;
  return fmt.has_inf ? Infinity : NaN;
}

/** Round to a value of a format: {magnitude, negative}, or {refused} where it has no such value. */
function roundTo(number, fmt, rounding = "nearest-even", overflow = fmt.overflow) {
  const x = number.magnitude;
  if (Number.isNaN(x) && !fmt.has_nan) return { refused: "the format has no NaN" };
  const rounded = Number.isFinite(x) ? roundMagnitude(number, fmt, rounding).rounded : x;
  let magnitude = limit(rounded, number, fmt, rounding, overflow);
  let negative = number.negative;
  if (!fmt.signed && (x === 0 ? !fmt.zero : negative)) magnitude = NaN; // what has no code
  if (Number.isNaN(magnitude) && !fmt.has_nan) {
    return { refused: "it overflows, and the format has neither infinity nor NaN" };
  }
  if (!fmt.signed || (fmt.specials === "fnuz" && magnitude === 0)) negative = false; // no -0
  return { magnitude, negative };
}

/** The code of +infinity in an IEEE-like format. */
function infinityCode(fmt) {
  return (2 ** fmt.exponent_bits - 1) * 2 ** fmt.mantissa_bits;
}

/** The code of the NaN that a conversion gives, its sign bit 0. */
function nanCode(fmt) {
  if (fmt.specials === "fnuz") return 2 ** (fmt.bits - 1);
  if (fmt.specials === "ieee") return infinityCode(fmt) + Math.floor(2 ** fmt.mantissa_bits / 2);
  return 2 ** (fmt.exponent_bits + fmt.mantissa_bits) - 1;
}

/** The code of a value of the format: the number of steps from zero, and the sign bit. */
function codeOf(value, fmt) {
  const x = value.magnitude;
  if (Number.isNaN(x) && fmt.specials === "fnuz") return nanCode(fmt);
  const sign = fmt.signed && value.negative ? 2 ** (fmt.bits - 1) : 0;
  if (Number.isNaN(x)) return sign + nanCode(fmt);
  if (x === Infinity) return sign + infinityCode(fmt);
  const exponent = Math.max(x > 0 ? exponentOf(x) : fmt.emin, fmt.emin);
  const significand = x * powerOfTwo(fmt.mantissa_bits - exponent);
  const binades = exponent - fmt.emin - (fmt.zero ? 0 : 1); // without zero, none below the first
  return sign + binades * 2 ** fmt.mantissa_bits + significand;
}

/**
 * The code of a float64 in a format, what fp8sim.encode gives: an integer; null where that refuses.
 */
function encode(number, fmt, rounding, overflow) {
  const value = roundTo(number, fmt, rounding, overflow);
  return value.refused ? null : codeOf(value, fmt);
}

/** The scale of a group from its largest magnitude, by a power-of-two rule, in the range of E8M0. */
function powerOfTwoScale(amax, fmt, rule) {
  let exponent = exponentOf(amax) - fmt.emax;
  if (amax === 0 || exponent < -127) return powerOfTwo(-127); // whatever the rule would add
  if (rule === "ceil") {
    const significand = (x) => x / powerOfTwo(exponentOf(x));
    exponent += significand(amax) > significand(fmt.max) ? 1 : 0;
  } else if (rule === "even") {
    const wide = { ...fmt, emin: -1022, zero: true, subnormals: true };
    const rounded = roundMagnitude({ magnitude: amax, negative: false }, wide, "nearest-even").rounded;
    exponent = exponentOf(rounded) - fmt.emax;
  }
  if (exponent > 127) throw new RangeError("the largest number needs a scale above 2^127, the largest of E8M0");
  return powerOfTwo(exponent);
}

/** A scale in FP32: 1 for a group of zeros, and never zero or infinite. */
function positiveFp32(scale, amax) {
  const rounded = Math.fround(scale);
  if (rounded === Infinity) throw new RangeError("the largest number needs a scale beyond FP32");
  return amax > 0 ? Math.max(rounded, powerOfTwo(-149)) : 1;
}

/** The scale of each group: what fp8sim.reference.scales.pick_scales gives. */
function pickScales(amaxes, fmt, scaling, formats) {
  if (scaling.format !== "e4m3") {
    return amaxes.map((amax) =>
      scaling.rule === "amax" ? positiveFp32(amax / fmt.max, amax) : powerOfTwoScale(amax, fmt, scaling.rule),
    );
  }
  const e4m3 = formats.e4m3; // scales under one FP32 scale of all, so that the largest of them is E4M3's
  const top = Math.max(...amaxes);
  const tensor = positiveFp32(top / (fmt.max * e4m3.max), top);
  return amaxes.map((amax) =>
    Math.fround(signedValue(roundTo(numberOf(amax / fmt.max / tensor), e4m3)) * tensor),
  );
}

/**
 * Quantise numbers, `size` of them to a scale: what fp8sim.quantize gives for a float64 vector.
 *
 * @returns {{elements, error, saturated, flushed}} elements: {x, scale, code, value, saturated, flushed};
 *   error: mean relative error of the numbers other than zero.
 */
function quantize(values, fmt, scaling, size, formats) {
  const groups = [];
  for (let i = 0; i < values.length; i += size) groups.push(values.slice(i, i + size));
  const amaxes = groups.map((group) => Math.max(...group.map(Math.abs)));
  const scales = scaling === null ? amaxes.map(() => 1) : pickScales(amaxes, fmt, scaling, formats);
  const overflow = scaling === null ? fmt.overflow : "saturate"; // scaled numbers saturate in any format
  const elements = values.map((x, i) => quantizeOne(x, scales[Math.floor(i / size)], fmt, overflow));
  const relative = elements.filter((e) => e.x !== 0).map((e) => Math.abs((e.value - e.x) / e.x));
  return {
    elements,
    error: relative.reduce((total, term) => total + term, 0) / Math.max(relative.length, 1),
    saturated: elements.filter((e) => e.saturated).length,
    flushed: elements.filter((e) => e.flushed).length,
  };
}

function quantizeOne(x, scale, fmt, overflow) {
  const scaled = numberOf(scale === 0 ? (x < 0 || Object.is(x, -0) ? -0 : 0) : x / scale);
  const rounded = roundTo(scaled, fmt, "nearest-even", overflow);
  if (rounded.refused) throw new RangeError(rounded.refused);
  const value = signedValue(rounded) * scale;
  const saturated =
    Number.isFinite(scaled.magnitude) && roundMagnitude(scaled, fmt, "nearest-even").rounded > fmt.max;
  return { x, scale, code: codeOf(rounded, fmt), value, saturated, flushed: x !== 0 && rounded.magnitude === 0 };
}
