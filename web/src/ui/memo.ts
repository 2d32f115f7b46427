import { Component, type ComponentType, type FunctionComponent, h } from "preact";

/** A component that is drawn again only when one of its props is another value. */
export function memo<P extends object>(draw: FunctionComponent<P>): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const keys = new Set([...Object.keys(this.props), ...Object.keys(next)]) as Set<keyof P>;
      return [...keys].some((key) => this.props[key] !== next[key]);
    }
    override render() {
      return h(draw, this.props as P);
    }
  };
}
