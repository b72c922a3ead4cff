// What scripts say, in the language of the page. They say it in English; a page in another language has the same texts in its own
// one in a block of data, by the English text.

const block = document.getElementById("words");
const texts = block ? JSON.parse(block.textContent) : {};

export const language = document.documentElement.lang || "en";

const rules = new Intl.PluralRules(language);
const numbers = new Intl.NumberFormat(language);

const filled = (text, values) => text.replace(/%\((\w+)\)s/g, (whole, name) => (name in values ? String(values[name]) : whole));

export const written = (number) => numbers.format(number);

// A number with a decimal point or comma.
export const decimal = (number, digits) => number.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function words(text, values = {}) {
  return filled(texts[text] ?? text, values);
}

// %(n)s in the texts is the number.
export function plural(one, many, number, values = {}) {
  const forms = texts[one] ?? { one, other: many };
  return filled(forms[rules.select(number)] ?? forms.other, { n: written(number), ...values });
}
