/** What a member may be called. The server has the last word; this only spares a round trip for the obvious. */

const NAME = /^[\p{L}\p{M}\p{Nd}_.-]{1,64}$/u;

/** A sentence saying what is wrong with a name, or null. */
export function nameProblem(name: string): string | null {
  if (!name) return "Choose a name first.";
  if ([...name].length > 64) return "A name has at most 64 characters.";
  if (!NAME.test(name)) return "A name has letters, digits, “_”, “-” and “.”, without spaces.";
  if (!name.replaceAll(".", "")) return "A name cannot be made of dots only.";
  if (sameName(name, "exit")) return "“exit” has a meaning of its own here; choose another name.";
  return null;
}

/** Two spellings of one name: case does not count. */
export function sameName(a: string, b: string): boolean {
  return nameKey(a) === nameKey(b);
}

export function nameKey(name: string): string {
  return name.normalize("NFKC").toLowerCase();
}

/** Which of the palette's colours a sender has: always the same, on every page. */
export const COLOURS = 8;
export function colourOf(name: string): number {
  let hash = 0;
  for (const char of nameKey(name)) hash = (hash * 31 + char.codePointAt(0)!) >>> 0;
  return hash % COLOURS;
}
