/** Says once per animation frame which threads changed, however many frames of the wire came in between. */
import { batch, signal, type Signal } from "@preact/signals";

export class Ticker {
  /** Rises when anything that the list of threads shows may have changed. */
  readonly any = signal(0);
  private readonly threads = new Map<string, Signal<number>>();
  private readonly changed = new Set<string>();
  private waiting = false;

  /** Rises when this thread's messages or running answers changed. */
  of(thread: string): Signal<number> {
    let version = this.threads.get(thread);
    if (!version) this.threads.set(thread, (version = signal(0)));
    return version;
  }

  touch(thread: string): void {
    this.changed.add(thread);
    if (this.waiting) return;
    this.waiting = true;
    // A hidden page gets no animation frames, and nobody looks at it.
    if (document.visibilityState === "visible") requestAnimationFrame(() => this.tell());
    else setTimeout(() => this.tell(), 250);
  }

  private tell(): void {
    this.waiting = false;
    batch(() => {
      this.any.value++;
      for (const thread of this.changed) this.of(thread).value++;
      this.changed.clear();
    });
  }
}
