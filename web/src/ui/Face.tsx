import { colourOf } from "../names.ts";

/** Somebody's first letter in their colour, with a lamp while they are online. */
export function Face({ name, online }: { name: string; online: boolean }) {
  return (
    <span class={`face colour-${colourOf(name)}${online ? " online" : ""}`} aria-hidden="true">
      {[...name][0]?.toUpperCase()}
    </span>
  );
}
