/** What the gateway answered, or why nothing came. */
export declare class TidegateError extends Error {
  /** The protocol's error code, or `timeout`, `disconnected`, `closed`, `unexpected`, `unsupported`. */
  readonly code: string;
  readonly retryAfterSeconds?: number;
}

export interface Options {
  /** Where the gateway is, or a namespace of it (`/n/factory-b/`); by default, where the page came from. */
  url?: string;
  transport?: "websocket" | "sse";
  /** What this client calls itself in rooms with presence, so that after a reload it is the same member. */
  member?: string;
  /**
   * Who this is: a token, or how to get one that is new, again before it expires. It goes in headers only; WebSocket and
   * EventSource get a ticket for it, which can be used once.
   */
  token?: string | (() => string | Promise<string>);
  /**
   * For a page of the gateway's own whose user has logged in: the token that `POST /login` and `GET /session` call `csrf`, or
   * how to get it. The browser sends the session cookie by itself, and what is sent by POST needs this beside it.
   */
  csrf?: string | (() => string | undefined | Promise<string | undefined>);
  /** How many bytes a second to be sent at most; beyond, only the newest message of each topic comes. */
  bytesPerSecond?: number;
  /** What to use instead of the platform's own, outside browsers and in tests. */
  WebSocket?: new (url: string, protocol: string) => WebSocket;
  EventSource?: new (url: string) => EventSource;
  fetch?: (url: string, request: RequestInit) => Promise<Response>;
  /** Between 0 and 1, for the pauses before reconnecting. */
  random?: () => number;
}

export interface Message {
  type: "message";
  room: string;
  topic?: string;
  data: unknown;
  cursor: string;
  /** Seconds since 1970. */
  time: number;
  from?: { session?: string; user?: string };
  retained?: boolean;
  binary?: boolean;
}

/** At most one message of each room and topic in so many seconds; the last one always comes. */
export interface Sample {
  /** From 0.01 to 3600. */
  seconds: number;
  /** What is made of the values of the period; mean, min and max are of numbers and of the numbers in objects. */
  keep?: "last" | "mean" | "min" | "max";
}

/** What a device answered. */
export interface Reply {
  data: unknown;
  /** `data` is base64. */
  binary?: boolean;
}

export interface Subscription {
  readonly room: string;
  unsubscribe(): void;
}

/** One of the four names, and the state that was set, if any. */
export type Who = ({ user: string } | { member: string } | { session: string } | { device: string }) & { state?: unknown };

export interface Presence {
  count: number;
  /** Not there where they are too many. */
  members?: Who[];
}

export type State = "connecting" | "open" | "reconnecting" | "closed";

/** Whether the gateway can reach one of the devices' brokers. */
export interface Upstream {
  name: string;
  state: "up" | "down";
}

export interface Gate extends EventTarget {
  readonly state: State;
  addEventListener(
    type: "state",
    listener: (event: Event & { readonly detail: State }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Messages of the room or pattern are lacking, and can't be had: the last values follow. */
  addEventListener(
    type: "gap",
    listener: (event: Event & { readonly detail: { readonly room: string } }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Somebody came into a room; with `updated`, one who was there has another state. */
  addEventListener(
    type: "joined",
    listener: (event: Event & { readonly detail: { room: string; who: Who; updated?: true } }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: "left",
    listener: (event: Event & { readonly detail: { room: string; who: Who } }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Who is in a room now, or how many, in place of all that was told of it before. */
  addEventListener(
    type: "presence",
    listener: (event: Event & { readonly detail: { room: string } & Presence }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: "upstream",
    listener: (event: Event & { readonly detail: Upstream }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: "error",
    listener: (event: Event & { readonly detail: TidegateError }) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    callback: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /**
   * `last` says that the message is a last value, told on subscribing. Of several subscriptions to one room the finest
   * sampling holds for all.
   */
  subscribe(
    room: string,
    callback: (message: Message, about: { last: boolean }) => void,
    options?: { sample?: Sample | null },
  ): Subscription;
  /** What is published again with the same `key` (1 to 64 characters), room and data is sent to devices at most once. */
  publish(room: string, data: unknown, options?: { key?: string }): Promise<void>;
  /** Asks the device behind a room. `timeoutSeconds` is how long the device may take: by default 10. */
  request(room: string, data: unknown, options?: { timeoutSeconds?: number }): Promise<Reply>;
  presence(room: string): Promise<Presence>;
  /** Over WebSocket only, and in rooms that were subscribed to by their names. */
  setPresence(room: string, state: unknown): Promise<Presence>;
  close(): void;
}

export declare function connect(options?: Options): Gate;
export declare function matches(pattern: string, room: string): boolean;
