// The types of htm_preact.js, for the check in tests/dashboard and for editors: the files in vendor/ tell none.

/** A template's elements; what stands in it is not looked into. */
export function html(template: TemplateStringsArray, ...values: unknown[]): unknown;
export function render(what: unknown, into: Element | null): void;

/** An effect may give back what ends it. */
type Effect = (effect: () => (() => unknown) | undefined | void, inputs?: unknown[]) => void;
type Change<T> = (next: T | ((before: T) => T)) => void;

export const useEffect: Effect;
export const useLayoutEffect: Effect;
/** What begins with null is something of the service's later, of whatever type. */
export function useState(first: null): [any, Change<any>];
export function useState<T>(first: T | (() => T)): [T, Change<T>];
export function useMemo<T>(make: () => T, inputs: unknown[]): T;
export function useCallback<T>(call: T, inputs: unknown[]): T;
export function useId(): string;
/** Of an element, once it is drawn. */
export function useRef(first?: null): { current: any };
/** Of what is kept from one drawing to the next. */
export function useRef<T>(first: T): { current: T };
