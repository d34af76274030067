// A client under test is a program: it reads commands as lines of JSON, and says what happens in the same way.
// A command is {do: name, id, ...arguments}; its answer is {id, value} or {id, error}. All else are events: {event, ...}.
import { createInterface } from "node:readline";

export const say = (object) => process.stdout.write(`${JSON.stringify(object)}\n`);

export function serve(commands) {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { do: name, id, ...given } = JSON.parse(line);
    try {
      say({ id, value: (await commands[name](given)) ?? null });
    } catch (error) {
      say({ id, error: String(error?.message ?? error) });
    }
  });
  lines.on("close", () => process.exit(0));
}
