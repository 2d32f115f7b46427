/**
 * The answers being written. A run has attempts; within one, pieces come with the offset at which they belong.
 * A higher attempt starts over, a lower one is ignored, and the message that ends the run replaces all of it.
 */
import { countCodePoints, skipCodePoints } from "./codepoints.ts";
import type { DeltaFrame, RunFrame } from "./wire.ts";

export interface Run {
  readonly id: string;
  readonly thread: string;
  readonly assistant: string;
  attempt: number;
  state: "queued" | "running" | "ended";
  position: number | null;
  text: string;
  /** Code points in `text`. */
  points: number;
  error: string | null;
}

const ENDED_KEPT = 200;

export class Runs {
  private readonly runs = new Map<string, Run>();

  get(id: string): Run | undefined {
    return this.runs.get(id);
  }

  /** The runs of a thread that have not ended, oldest first. */
  open(thread: string): Run[] {
    return [...this.runs.values()].filter((run) => run.thread === thread && run.state !== "ended");
  }

  /** What a resuming `hello` says it has. */
  resume(): Record<string, [number, number]> {
    const open: Record<string, [number, number]> = {};
    for (const run of this.runs.values()) if (run.state !== "ended") open[run.id] = [run.attempt, run.points];
    return open;
  }

  hearState(frame: RunFrame): Run {
    const run = this.known(frame);
    if (frame.type === "run.queued" || frame.type === "run.started") {
      if (run.state === "ended" || !this.enter(run, frame.attempt)) return run;
      run.state = frame.type === "run.queued" ? "queued" : "running";
      run.position = frame.position ?? null;
      return run;
    }
    if (frame.type === "run.failed") run.error = sentence(frame.error);
    this.end(run);
    return run;
  }

  hearDelta(frame: DeltaFrame): Run {
    const run = this.known(frame);
    if (run.state === "ended" || !this.enter(run, frame.attempt)) return run;
    run.state = "running";
    // The server never leaves a hole. Should there be one, the message at the end makes it whole.
    if (frame.offset > run.points) return run;
    const fresh = skipCodePoints(frame.text, run.points - frame.offset);
    run.text += fresh;
    run.points += countCodePoints(fresh);
    return run;
  }

  hearReset(id: string, attempt: number): Run | undefined {
    const run = this.runs.get(id);
    if (!run || run.state === "ended" || attempt < run.attempt) return run;
    startOver(run, attempt);
    return run;
  }

  /** A numbered message carries this run: what was streamed has done its duty. */
  ended(id: string): void {
    const run = this.runs.get(id);
    if (run) this.end(run);
  }

  forgetThread(thread: string): void {
    for (const run of [...this.runs.values()]) if (run.thread === thread) this.runs.delete(run.id);
  }

  private known(frame: { run: string; thread: string; assistant: string; attempt: number }): Run {
    let run = this.runs.get(frame.run);
    if (!run) {
      run = {
        id: frame.run,
        thread: frame.thread,
        assistant: frame.assistant,
        attempt: frame.attempt,
        state: "running",
        position: null,
        text: "",
        points: 0,
        error: null,
      };
      this.runs.set(run.id, run);
    }
    return run;
  }

  /** Whether a frame of this attempt counts; a higher one throws away what there was. */
  private enter(run: Run, attempt: number): boolean {
    if (attempt > run.attempt) startOver(run, attempt);
    return attempt === run.attempt;
  }

  private end(run: Run): void {
    run.state = "ended";
    run.text = "";
    run.points = 0;
    const ended = [...this.runs.values()].filter((one) => one.state === "ended");
    for (const old of ended.slice(0, Math.max(0, ended.length - ENDED_KEPT))) this.runs.delete(old.id);
  }
}

function startOver(run: Run, attempt: number): void {
  run.attempt = attempt;
  run.text = "";
  run.points = 0;
}

/** The human part of an error, which may be a sentence or an object holding one. */
export function sentence(error: unknown): string | null {
  if (typeof error === "string") return error || null;
  if (typeof error !== "object" || error === null) return null;
  const { detail, message, title } = error as Record<string, unknown>;
  for (const part of [detail, message, title]) if (typeof part === "string" && part) return part;
  return null;
}
