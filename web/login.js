// Who looks at the page: asks the gateway, shows the form where a login is needed, and keeps a login alive.

const LONGEST_MILLISECONDS = 10 * 60 * 1000; // between questions: the page's clock may be wrong
const SHORTEST_MILLISECONDS = 1000;
const AGAIN_MILLISECONDS = 5000; // after the gateway couldn't be reached: who was logged in may not be when it is back

/** Calls `enter()` whenever the page may connect, `leave()` when it may no more. */
export class Login {
  csrf; // the token that the session cookie needs beside it, if there is one
  #place;
  #bar;
  #enter;
  #leave;
  #user; // undefined until it is known
  #next = null;
  #wait = null;
  #asking = false;

  constructor(place, bar, { enter, leave }) {
    this.#place = place;
    this.#bar = bar;
    this.#enter = enter;
    this.#leave = leave;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#find(".cancel").addEventListener("click", () => this.#hide());
    this.#in("open").addEventListener("click", () => this.#show("", true));
    this.#in("logout").addEventListener("click", () => this.#logOut());
  }

  get #form() {
    return this.#place.querySelector("form");
  }

  #find(selector) {
    return this.#place.querySelector(selector);
  }

  #in(name) {
    return this.#bar.querySelector(`[data-testid=${name}]`);
  }

  /** Whether the page may show nothing before somebody has logged in. */
  get locked() {
    return !this.#place.hidden && this.#find(".cancel").hidden;
  }

  /** Asks the gateway who this is; where it doesn't know or can't be reached, the page connects as it can. */
  async ask() {
    if (this.#asking || this.locked) return;
    this.#asking = true;
    clearTimeout(this.#next);
    try {
      const response = await fetch("session", { cache: "no-store" });
      const answer = await response.json().catch(() => ({}));
      if (response.ok) this.#known(answer);
      else if (response.status === 401 && answer.login) this.#lock();
      else this.#enter();
    } catch {
      this.#next = setTimeout(() => this.ask(), AGAIN_MILLISECONDS);
      this.#enter();
    } finally {
      this.#asking = false;
    }
  }

  #known({ user, csrf, login, expires_at: expiresAt }) {
    if (this.#user && this.#user !== user) return location.reload(); // nobody sees what was another one's to see
    this.#user = user;
    this.csrf = csrf;
    this.#in("user").textContent = user ?? "";
    this.#in("user").hidden = !user;
    this.#in("logout").hidden = !csrf;
    this.#in("open").hidden = !login || Boolean(user);
    this.#bar.hidden = !user && !login;
    if (csrf) this.#askBefore(expiresAt);
    this.#hide();
    this.#enter();
  }

  /** Asks again once more than half of the time is over, which is when the gateway gives a newer cookie. */
  #askBefore(expiresAt) {
    const half = (expiresAt * 1000 - Date.now()) * 0.6;
    this.#next = setTimeout(() => this.ask(), Math.min(Math.max(half, SHORTEST_MILLISECONDS), LONGEST_MILLISECONDS));
  }

  #lock() {
    this.csrf = undefined;
    this.#bar.hidden = true;
    this.#show(this.#user ? "Your login has ended." : "", false);
    this.#leave();
  }

  #show(why, optional) {
    this.#find(".why").textContent = why;
    this.#find(".cancel").hidden = !optional;
    this.#tell("");
    this.#place.hidden = false;
    const { user, password } = this.#form.elements;
    if (!user.value && this.#user) user.value = this.#user;
    (user.value ? password : user).focus();
  }

  #hide() {
    this.#place.hidden = true;
    this.#form.elements.password.value = "";
  }

  #tell(text) {
    this.#find(".problem").textContent = text;
  }

  async #submit() {
    const { user, password } = this.#form.elements;
    const button = this.#find("[type=submit]");
    if (button.disabled) return;
    if (!user.value || !password.value) return this.#tell("Enter your user name and your password.");
    button.disabled = true;
    this.#tell("");
    let wait = 0;
    try {
      const body = JSON.stringify({ user: user.value, password: password.value });
      const response = await fetch("login", { method: "POST", headers: { "content-type": "application/json" }, body });
      const answer = await response.json();
      if (response.ok) return this.#known({ ...answer, login: true });
      wait = Math.ceil(answer.retry_after_seconds ?? 0);
      this.#refused(response.status, answer, wait);
    } catch {
      this.#tell("The gateway can't be reached.");
    } finally {
      this.#countDown(button, wait);
    }
  }

  #refused(status, { detail }, wait) {
    const { password } = this.#form.elements;
    if (status === 401) {
      this.#tell("The user name or the password is wrong.");
      password.value = "";
      password.focus();
    } else if (wait) this.#tell(`${status === 429 ? "Too many tries" : "The gateway is busy"}: wait ${wait} s.`);
    else this.#tell(detail ?? `The gateway answered with status ${status}.`);
  }

  /** The button says how many seconds are left, and can be pressed after that. */
  #countDown(button, seconds) {
    clearTimeout(this.#wait);
    button.disabled = seconds > 0;
    button.textContent = seconds > 0 ? `Wait ${seconds} s` : "Log in";
    if (seconds > 0) this.#wait = setTimeout(() => this.#countDown(button, seconds - 1), 1000);
    else if (this.#find(".problem").textContent.includes("wait")) this.#tell("");
  }

  async #logOut() {
    const headers = { "x-csrf-token": this.csrf };
    await fetch("logout", { method: "POST", headers }).catch(() => {});
    location.reload(); // and with it goes all that the page has been told
  }
}
