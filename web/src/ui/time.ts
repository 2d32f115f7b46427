/** Moments as the reader's own clock and calendar show them. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const whole = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const weekday = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });

const date = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

export const clockTime = (timestamp: string): string => clock.format(new Date(timestamp));
export const wholeTime = (timestamp: string): string => whole.format(new Date(timestamp));
export const day = (timestamp: string): string => date.format(new Date(timestamp));

/** The same for all moments of one day. */
export const dayOf = (timestamp: string): string => new Date(timestamp).toDateString();

export function dayTitle(timestamp: string, now = new Date()): string {
  const yesterday = new Date(now);
  yesterday.setDate(now.getDate() - 1);
  if (dayOf(timestamp) === now.toDateString()) return "Today";
  if (dayOf(timestamp) === yesterday.toDateString()) return "Yesterday";
  return weekday.format(new Date(timestamp));
}
