/** Says once per animation frame which threads changed, however many frames of the wire came in between. */
import { batch, signal, type Signal } from "@preact/signals";

const WITHOUT_FRAMES_MS = 250;

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
    requestAnimationFrame(() => this.tell());
    // A page that is hidden or covered gets few animation frames or none.
    setTimeout(() => this.tell(), WITHOUT_FRAMES_MS);
  }

  private tell(): void {
    if (!this.changed.size) return;
    this.waiting = false;
    batch(() => {
      this.any.value++;
      for (const thread of this.changed) this.of(thread).value++;
      this.changed.clear();
    });
  }
}
