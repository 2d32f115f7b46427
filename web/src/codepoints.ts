/**
 * Offsets on the wire count Unicode code points; JavaScript strings count UTF-16 units, where everything beyond
 * U+FFFF takes two. The wire never splits a pair.
 */

const isLowSurrogate = (unit: number): boolean => unit >= 0xdc00 && unit <= 0xdfff;

export function countCodePoints(text: string): number {
  let count = 0;
  for (let i = 0; i < text.length; i++) if (!isLowSurrogate(text.charCodeAt(i))) count++;
  return count;
}

/** The text without its first `count` code points. */
export function skipCodePoints(text: string, count: number): string {
  let unit = 0;
  for (let left = count; left > 0 && unit < text.length; left--) {
    unit++;
    if (unit < text.length && isLowSurrogate(text.charCodeAt(unit))) unit++;
  }
  return text.slice(unit);
}
