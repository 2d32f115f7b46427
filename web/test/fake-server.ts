import type { Socket } from "../src/connection.ts";
import { decodeFrames, encodeFrame, type Frame } from "../src/wire.ts";

export type Sent = Frame & Record<string, unknown>;

/** The server's end of one socket. */
export class FakeSocket implements Socket {
  binaryType = "";
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number }) => void) | null = null;
  sent: Sent[] = [];
  closed = false;

  send(data: Uint8Array<ArrayBuffer>): void {
    this.sent.push(...(decodeFrames(data.buffer) as Sent[]));
  }

  close(): void {
    this.closed = true;
  }

  say(...frames: object[]): void {
    for (const frame of frames) this.onmessage?.({ data: encodeFrame(frame).buffer });
  }

  all(type: string): Sent[] {
    return this.sent.filter((frame) => (frame.type as string) === type);
  }

  last(type: string): Sent {
    const found = this.all(type).at(-1);
    if (!found) throw new Error(`No ${type} was sent.`);
    return found;
  }

  answer(type: string, frame: object): void {
    this.say({ ...frame, id: this.last(type).id });
  }
}
