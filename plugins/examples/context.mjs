// A hook in JavaScript, through `ingle rpc`: shows the model what a client offers beside its prompt.
//
//     node plugins/examples/context.mjs &
//     git diff | ingle ask --context diff=- "what is this change for?"
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

const BUDGET = 8000; // characters of context, at most
const rpc = spawn('ingle', ['rpc'], { stdio: ['pipe', 'pipe', 'inherit'] });
const say = (message) => rpc.stdin.write(JSON.stringify(message) + '\n');

function withContext({ messages, call }) {
  let left = BUDGET;
  const shown = call.context.map(({ kind, name, text }) => {
    const part = text.slice(0, left);
    left -= part.length;
    return part && `<${kind}${name ? ` name="${name}"` : ''}>\n${part}\n</${kind}>`;
  }).filter(Boolean);
  if (!shown.length) return {};
  const [last, ...before] = [...messages].reverse();
  const content = `${shown.join('\n')}\n\n${last.content}`;
  return { messages: [...before.reverse(), { ...last, content }] };
}

const hear = {
  welcome: () => say({ // also after a restart of the daemon
    t: 'hook_offer', ref: 1, name: 'show-context', version: '1', points: ['prompt'], order: 100, deadline_ms: 500,
  }),
  failed: (m) => { console.error(`${m.code}: ${m.message}`); rpc.stdin.end(); process.exitCode = 1; },
  hook_call: (m) => {
    const value = withContext(m.value);
    const verdict = value.messages ? 'changed' : 'unchanged';
    say({ t: 'hook_reply', call: m.call, results: [{ hook: m.hooks[0], verdict }], ...(value.messages && { value }) });
  },
};
createInterface({ input: rpc.stdout }).on('line', (line) => { const m = JSON.parse(line); hear[m.t]?.(m); });
rpc.on('exit', (code) => process.exit(process.exitCode ?? code ?? 1));
process.on('SIGTERM', () => rpc.stdin.end()); // the bridge takes the hook away and ends
process.on('SIGINT', () => rpc.stdin.end());
